"""Faults of the disk at every call on an output folder: one line, nothing lost, whole afterwards.

An audit hook sees each call that opens, renames, deletes or lists a file, makes a folder or locks
one, and raises an error at the nth; `os.fsync`, which has no audit event, is patched. By default a
few calls are tried; FAULTS=all tries every one (`make test-faults`).
"""

import errno
import itertools
import os
import shutil
import sys
import tempfile

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from bloodcells.tracking import run_folder
from bloodcells.training import session

EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"),
    *("fcntl.flock", "shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp"),
}
ERRORS = {
    "full": errno.ENOSPC,
    "broken": errno.EIO,
    "read-only": errno.EROFS,
    "no locks": errno.ENOLCK,
}
FLAGS = ("--synthetic", "--folds", "2", "--epochs", "2", "--device", "cpu", "--quiet")
EVERY = os.environ.get("FAULTS") == "all"
SOME = list(ERRORS) if EVERY else ["full"]  # where one error stands for all


class Faults:
    """Counts the calls on one folder, and makes one of them fail."""

    def __init__(self):
        self.folder, self.at, self.number, self.calls = "", None, 0, itertools.count(1)

    def arm(self, folder, at=None, number=0):
        self.folder, self.at, self.number = str(folder), at, number
        self.calls, self.seen = itertools.count(1), 0

    def disarm(self):
        self.folder = ""

    def check(self):
        self.seen = next(self.calls)
        if self.seen == self.at:
            raise OSError(self.number, os.strerror(self.number))

    def hook(self, event, arguments):
        if not self.folder or event not in EVENTS:
            return
        if event == "fcntl.flock" or any(self.folder in str(part) for part in arguments[:2]):
            self.check()


@pytest.fixture(scope="module")
def hooked():
    found = Faults()
    sys.addaudithook(found.hook)  # stays for ever, so it does nothing unless armed
    return found


@pytest.fixture
def faults(hooked, monkeypatch, tmp_path_factory):
    sync = os.fsync

    def fsync(file):
        if hooked.folder:
            hooked.check()
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(session, "matrix_product_gflops", lambda *args, **more: 1.0)
    monkeypatch.setattr("bloodcells.reporting.results.draw", lambda *args: None)
    monkeypatch.delenv("BLOODCELLS_DEBUG")
    private = tmp_path_factory.mktemp("temporary")  # without the lock files of other trainings
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    yield hooked
    hooked.disarm()


def same(folder, expected):
    """Whether a run folder is complete, and its predictions are those of an undisturbed run."""
    found = run_folder.read(folder)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    names = {path.name for path in folder.iterdir()}
    junk = {name for name in names if name.startswith(".writing-") or name.endswith(".part")}
    return not junk and "checkpoint" not in names


def count(run, faults, script, folder, *flags):
    """How many calls a script makes on a folder."""
    faults.arm(folder)
    outcome = run(script, *FLAGS, *flags, "--output", folder)
    faults.disarm()
    assert outcome.code == 0, outcome
    return faults.seen


def chosen(total, few):
    """The calls to disturb: all, or a few spread over them."""
    few_spread = np.linspace(1, total, few + 2)[1:-1] if few < 2 else np.linspace(1, total, few)
    return range(1, total + 1) if EVERY else sorted({round(x) for x in few_spread})


@pytest.mark.parametrize("before", ["nothing", "a finished run"])
@pytest.mark.parametrize(
    ("script", "few", "name"),
    [
        *(("model_baseline.py", 4, name) for name in ERRORS),
        *(("model_cnn.py", 1, name) for name in SOME),
    ],
)
def test_error_at_a_call(run, faults, tmp_path, name, before, script, few):
    flags, earlier = [], tmp_path / "earlier"
    if before == "a finished run":
        assert run(script, *FLAGS, "--seed", "1", "--output", earlier).code == 0
        flags = ["--overwrite"]
        shutil.copytree(earlier, tmp_path / "whole")
    total = count(run, faults, script, tmp_path / "whole", *flags)
    expected = run_folder.read(tmp_path / "whole")
    assert total > 60
    for at in chosen(total, few):
        folder = tmp_path / f"at-{at}"
        if flags:
            shutil.copytree(earlier, folder)
        faults.arm(folder, at, ERRORS[name])
        outcome = run(script, *FLAGS, *flags, "--output", folder)
        faults.disarm()
        assert faults.seen >= at
        where = (at, name, outcome)
        assert outcome.code in (0, 2), where
        assert len(outcome.err.strip().splitlines()) == (outcome.code == 2), where
        assert "Traceback" not in outcome.err, where
        finished = (folder / "metrics.json").exists()
        assert finished or outcome.code == 2, where
        if finished:  # whole, be it the earlier one or the new one
            kept = run_folder.read(folder)
            new = np.array_equal(kept.probabilities, expected.probabilities)
            assert new or flags, where
        unfinished = (folder / "checkpoint" / "identity.json").exists()
        again = ["--resume"] if unfinished or (not flags and finished) else flags
        assert run(script, *FLAGS, *again, "--output", folder).code == 0, where
        assert same(folder, expected), where
        shutil.rmtree(folder)


def interrupted(run, monkeypatch, folder):
    """A baseline run that was stopped after its first model."""
    finish = session.Session.finish

    def stop(self, *rest):
        finish(self, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "finish", stop)
        assert run("model_baseline.py", *FLAGS, "--output", folder).code == 130


@pytest.mark.parametrize("name", SOME)
def test_error_at_a_call_of_a_resumed_run(run, faults, tmp_path, monkeypatch, name):
    interrupted(run, monkeypatch, tmp_path / "stopped")
    shutil.copytree(tmp_path / "stopped", tmp_path / "whole")
    total = count(run, faults, "model_baseline.py", tmp_path / "whole", "--resume")
    expected = run_folder.read(tmp_path / "whole")
    for at in chosen(total, 2):
        folder = tmp_path / f"at-{at}"
        shutil.copytree(tmp_path / "stopped", folder)
        faults.arm(folder, at, ERRORS[name])
        outcome = run("model_baseline.py", *FLAGS, "--resume", "--output", folder)
        faults.disarm()
        assert outcome.code in (0, 2), (at, outcome)
        assert len(outcome.err.strip().splitlines()) == (outcome.code == 2), (at, outcome)
        assert run("model_baseline.py", *FLAGS, "--resume", "--output", folder).code == 0
        assert same(folder, expected), at
        shutil.rmtree(folder)


TOOLS = {
    "figures": ("data_visualization.py", "--synthetic", "--montage", "1", "--examples", "1"),
    "architecture": ("architecture.py", "--model", "Baseline"),
    "labelled images": ("predict.py", "IMAGES", "--labelled", "--weights", "WEIGHTS"),
    "export": ("predict.py", "--weights", "WEIGHTS"),
}


@pytest.fixture
def tool(run, weights, tmp_path):
    """Runs one of `TOOLS`, which writes into a folder; returns its outcome."""
    folder = tmp_path / "images" / "monocyte"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((28, 28, 3), 99, np.uint8)).save(folder / "cell.png")

    def call(name, target):
        places = {"IMAGES": folder.parent, "WEIGHTS": weights}
        script, *flags = (places.get(flag, flag) for flag in TOOLS[name])
        output = ("--export", target / "model.onnx") if name == "export" else ("--output", target)
        return run(script, *flags, *output)

    return call


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("what", TOOLS)
def test_error_at_a_call_of_a_tool(tool, faults, tmp_path, what, name):
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    assert tool(what, first).code == 0
    shutil.copytree(first, again)
    faults.arm(again)
    outcome = tool(what, again)
    faults.disarm()
    assert outcome.code == 0, outcome
    files = {path.name for path in first.iterdir()}
    for at in chosen(faults.seen, 1):
        folder = tmp_path / f"at-{at}"
        shutil.copytree(first, folder)
        faults.arm(folder, at, ERRORS[name])
        outcome = tool(what, folder)
        faults.disarm()
        where = (what, at, name, outcome)
        assert faults.seen >= at, where
        assert outcome.code in (0, 2), where
        assert "Traceback" not in outcome.err, where
        if what == "export":  # whole, be it the earlier file or the new one
            onnxruntime.InferenceSession(folder / "model.onnx")
        assert tool(what, folder).code == 0, where
        left = {path.name for path in folder.glob(".writing-*")}  # its removal failed
        assert all(name in outcome.out + outcome.err for name in left), where
        assert {path.name for path in folder.iterdir()} - left == files, where
        shutil.rmtree(folder)
