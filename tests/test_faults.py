"""Faults of the disk at every call on a run folder: one line, nothing lost, the same bits after.

An audit hook sees each call that opens, renames, deletes or lists a file, makes a folder or locks
one, and raises an error at the nth; `os.fsync`, which has no audit event, is patched. By default a
few calls are tried; FAULTS=all tries every one (`make test-faults`).
"""

import errno
import itertools
import os
import shutil
import sys

import numpy as np
import pytest

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
def faults(hooked, monkeypatch):
    sync = os.fsync

    def fsync(file):
        if hooked.folder:
            hooked.check()
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(session, "matrix_product_gflops", lambda *args, **more: 1.0)
    monkeypatch.setattr("bloodcells.reporting.results.draw", lambda *args: None)
    monkeypatch.delenv("BLOODCELLS_DEBUG")
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
    return range(1, total + 1) if EVERY else sorted({round(x) for x in np.linspace(1, total, few)})


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("before", ["nothing", "a finished run"])
def test_error_at_a_call(run, faults, tmp_path, name, before):
    script = "model_baseline.py"
    flags, earlier = [], tmp_path / "earlier"
    if before == "a finished run":
        assert run(script, *FLAGS, "--seed", "1", "--output", earlier).code == 0
        flags = ["--overwrite"]
        shutil.copytree(earlier, tmp_path / "whole")
    total = count(run, faults, script, tmp_path / "whole", *flags)
    expected = run_folder.read(tmp_path / "whole")
    assert total > 60
    for at in chosen(total, 5):
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
