"""What differs on Windows, as far as it can be told on another system."""

import errno

import pytest

from bloodcells.cli import endings


def test_commands_are_quoted_as_the_system_needs_it(monkeypatch):
    assert endings.as_typed(["my lab/it's"]) == "'my lab/it'\"'\"'s'"
    monkeypatch.setattr(endings.os, "name", "nt")
    assert endings.as_typed([r"C:\my lab", r"C:\lab"]) == r'"C:\my lab" C:\lab'


def test_a_closed_pipe(monkeypatch):
    def write():
        with endings.closed_pipe_told():
            raise OSError(errno.EINVAL, "Invalid argument")

    with pytest.raises(OSError, match="Invalid argument"):
        write()
    monkeypatch.setattr(endings.os, "name", "nt")
    with pytest.raises(BrokenPipeError):
        write()
