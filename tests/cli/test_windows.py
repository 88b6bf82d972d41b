"""What differs on Windows, as far as it can be told on another system."""

import errno

from bloodcells.cli import endings


def test_commands_are_quoted_as_the_system_needs_it(monkeypatch):
    assert endings.as_typed(["my lab/it's"]) == "'my lab/it'\"'\"'s'"
    monkeypatch.setattr(endings.os, "name", "nt")
    assert endings.as_typed([r"C:\my lab", r"C:\lab"]) == r'"C:\my lab" C:\lab'


def test_a_closed_pipe(monkeypatch):
    closed, of_a_file = OSError(errno.EINVAL, "bad"), OSError(errno.EINVAL, "bad", "a.png")
    assert endings.is_broken_pipe(BrokenPipeError())
    assert not endings.is_broken_pipe(closed)
    monkeypatch.setattr(endings.os, "name", "nt")
    assert endings.is_broken_pipe(closed)
    assert not endings.is_broken_pipe(of_a_file)
