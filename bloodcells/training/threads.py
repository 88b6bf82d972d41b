"""The threads that a process computes with, and other trainings on the same machine.

Two trainings that together have more threads than the machine has cores slow each other down five
to ten times, since each thread waits for the others by spinning.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import filelock
import joblib
import torch

from bloodcells.training.locks import is_held

COUNT = ".threads"  # ends the names of files with the number of a training's threads


def use_threads(wanted: int | None) -> None:
    """Compute with `wanted` threads; None means as many as this process may use.

    torch itself heeds OMP_NUM_THREADS and the processor affinity, but no container's CPU quota.
    """
    torch.set_num_threads(wanted or min(torch.get_num_threads(), joblib.cpu_count()))


class Trainings:
    """This user's trainings on this machine with the same temporary folder, this one included.

    Of those with processor cores of their own, as some clusters give, none is counted.
    """

    def __init__(self, mine: Path | None):
        """`mine` is this one's lock file, beside the others'; None: no other is known."""
        self.mine = mine
        self.at_first = torch.get_num_threads()  # before any are left to others

    def others(self) -> list[int]:
        """The process numbers of the other trainings; files of ended ones are removed."""
        found = []
        for path in sorted(self.mine.parent.glob("*.training")) if self.mine else ():
            if path == self.mine:
                continue
            with suppress(OSError):  # a file that cannot be asked, or removed, tells nothing
                if not is_held(path):
                    path.unlink(missing_ok=True)
                    path.with_suffix(COUNT).unlink(missing_ok=True)
                elif shares_cores_with(int(path.stem)):
                    found.append(int(path.stem))
        return found

    def fair_share(self, others: int) -> int:
        """The threads of each training that together are no more than the cores; at least one."""
        return min(self.at_first, max(1, joblib.cpu_count() // (1 + others)))

    def share_cores(self, wanted: int | None) -> None:
        """Compute with `wanted` threads; None means a fair share, which changes with the others."""
        torch.set_num_threads(wanted or self.fair_share(len(self.others())))
        self.tell()

    def tell(self) -> None:
        """Tell the others how many threads this one has."""
        if self.mine:
            with suppress(OSError):
                self.mine.with_suffix(COUNT).write_text(str(torch.get_num_threads()))

    def threads_of(self, other: int) -> int:
        """The threads of another training; as many as this one has if it does not tell."""
        try:
            return int(cast(Path, self.mine).with_name(f"{other}{COUNT}").read_text())
        except (OSError, ValueError):
            return torch.get_num_threads()

    def notice(self) -> str | None:
        """What to do about the other trainings, if together there are more threads than cores."""
        others = self.others()
        together = torch.get_num_threads() + sum(map(self.threads_of, others))
        if together <= joblib.cpu_count() or not others:
            return None
        return (
            f"also training on this machine: process {', '.join(map(str, others))}; with more "
            "threads than cores, each takes several times as long: wait, or give each --threads "
            f"{self.fair_share(len(others))}"
        )


def shares_cores_with(process: int) -> bool:
    """Whether a process may run on one of this one's cores; True where the system does not say."""
    affinity = getattr(os, "sched_getaffinity", None)  # a Mac and Windows have none
    try:
        return affinity is None or bool(affinity(process) & affinity(0))
    except OSError:  # it has just ended
        return True


@contextmanager
def trainings() -> Iterator[Trainings]:
    """Within the block, this process is one of the machine's trainings.

    The block may lower this process's number of threads; after it, the number is as before.
    Where lock files are impossible, or the folder is another user's, each goes on as if alone.
    """
    before, lock = torch.get_num_threads(), announce()
    mine = Path(lock.lock_file) if lock else None
    try:
        beside = Trainings(mine)
        beside.tell()
        yield beside
    finally:
        torch.set_num_threads(before)  # the others may have ended
        if lock and mine:
            with suppress(OSError):
                lock.release()
            for path in (mine, mine.with_suffix(COUNT)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def announce() -> filelock.BaseFileLock | None:
    """Take the lock that tells others that this process trains; None where there can be none."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"bloodcells-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != user:
            return None
        # another may just ask whether it is held
        lock = filelock.FileLock(folder / f"{os.getpid()}.training", timeout=1)
        lock.acquire()
        return lock
    except (OSError, filelock.Timeout):
        return None
