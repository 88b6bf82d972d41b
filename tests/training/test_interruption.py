"""Signals that end a training, and the command that resumes it."""

import errno
import signal
import sys
from argparse import Namespace
from dataclasses import replace
from functools import partial

import pytest

from bloodcells.tracking import provenance
from bloodcells.training import interruption


def test_second_signal_stops_at_once():
    def train():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        interruption.stop_if_asked()

    with pytest.raises(interruption.Interrupted), interruption.ending_after_the_batch():
        train()
    interruption.stop_if_asked()  # outside, nothing was asked for


def test_a_signal_after_the_last_batch_is_not_forgotten():
    with pytest.raises(interruption.Interrupted), interruption.ending_after_the_batch():
        signal.raise_signal(signal.SIGTERM)


def test_resuming_command_keeps_what_matters(monkeypatch, tmp_path):
    argv = ["a/model_cnn.py", "--only-seed", "3", "--overwrite", "--output", "a b"]
    monkeypatch.setattr(sys, "argv", argv)
    start = "python a/model_cnn.py"
    code = provenance.Code("model_cnn.py", "c0ffee", {}, {}, {})
    args = Namespace(code=code, output=tmp_path)
    resuming = partial(interruption.resuming_command, args)
    assert resuming() == f"{start} --only-seed 3 --output 'a b' --overwrite"  # nothing begun yet
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "identity.json").touch()
    assert resuming() == f"{start} --only-seed 3 --output 'a b' --resume"
    assert resuming(alone=True) == f"{start} --output 'a b' --resume"
    monkeypatch.setattr(sys, "argv", ["model_cnn.py"])
    assert resuming() == "python model_cnn.py --resume"
    monkeypatch.setattr(sys, "argv", ["model_cnn.py", "--only-fold=1", "--epochs=2"])
    assert resuming(alone=True) == "python model_cnn.py --epochs=2 --resume"
    monkeypatch.setattr("bloodcells.training.distributed.size", lambda: 2)
    assert "with --resume, without --overwrite" in resuming()
    monkeypatch.setattr("bloodcells.training.distributed.size", lambda: 1)
    monkeypatch.setattr(sys, "argv", ["model_cnn.py"])
    args.code = replace(code, files={"models.py": "x"})  # the folder's name changes with the code
    assert resuming() == f"python model_cnn.py --output {args.output} --resume"


def test_a_terminal_that_is_gone(monkeypatch):
    def gone(*_):
        raise OSError(errno.EIO, "Input/output error")

    def train():
        signal.raise_signal(signal.SIGTERM)
        interruption.stop_if_asked()

    monkeypatch.setattr("os.write", gone)
    with pytest.raises(interruption.Interrupted), interruption.ending_after_the_batch():
        train()
