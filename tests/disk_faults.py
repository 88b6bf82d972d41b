"""Faults of the disk, at every call on an output folder.

An audit hook sees each call that opens, renames, deletes or lists a file, makes a folder or locks
one, and raises an error at the nth; `os.fsync`, which has no audit event, is patched. By default a
few calls are tried; FAULTS=all tries every one (`make test-faults`).
"""

import errno
import itertools
import os
from pathlib import Path

import numpy as np
import warm

TESTS = Path(__file__).parent
EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"),
    *("fcntl.flock", "shutil.rmtree"),
}
ERRORS = {
    "full": errno.ENOSPC,
    "broken": errno.EIO,
    "read-only": errno.EROFS,
    "no locks": errno.ENOLCK,
}
EVERY = os.environ.get("FAULTS") == "all"
SOME = list(ERRORS) if EVERY else ["full"]  # where one error stands for all
SMALL_SEARCH = """
base = "cnn-paper"
model = "Baseline"
synthetic = true
folds = 2
epochs = 1
[space]
lr = [0.001, 0.1]
"""


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
            self.strike()

    def strike(self):
        raise OSError(self.number, os.strerror(self.number))

    def fsync(self, file, fsync=os.fsync):
        if self.folder:
            self.check()
        fsync(file)

    def hook(self, event, arguments):
        if not self.folder or event not in EVENTS:
            return
        if event == "fcntl.flock" or any(self.folder in str(part) for part in arguments[:2]):
            self.check()


def chosen(total, few):
    """The calls to disturb: all, or a few spread over them."""
    few_spread = np.linspace(1, total, few + 2)[1:-1] if few < 2 else np.linspace(1, total, few)
    return range(1, total + 1) if EVERY else sorted({round(x) for x in few_spread})


def kill_at_calls(runs, few, earlier, script, *flags):
    """Run `killed_at_calls.py`, which says what these are; returns the number of kills."""
    command = (TESTS / "killed_at_calls.py", runs, few, earlier, script, *flags)
    done = warm.run(*command, cwd=TESTS.parent, seconds=3600)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])
