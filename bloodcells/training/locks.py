"""Locks on a run folder, so that no two processes train the same model."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import filelock

from bloodcells.errors import UserError
from bloodcells.tracking.atomic import write_whole
from bloodcells.tracking.files import CHECKPOINTS
from bloodcells.tracking.run_folder import writing_to

try:
    import fcntl
except ImportError:  # Windows, whose locks work on every disk
    fcntl = None  # type: ignore[assignment]


class ModelLocks:
    """Locks on the models that this process trains, and one for a turn at checking the folder.

    `run` is the run folder, `names` the models; if `shared`, other processes may train the others.
    """

    def __init__(self, run: Path, names: Sequence[str], shared: bool):
        self.run, self.folder, self.names, self.shared = run, run / CHECKPOINTS, names, shared
        self.checking = filelock.FileLock(run / ".turn.lock")
        self.own = [filelock.FileLock(self.folder / f"{name}.lock") for name in names]

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within the block, no other process checks or changes the folder. Raises `UserError`."""
        with writing_to(self.run):
            self.checking.acquire()
        try:
            yield
        finally:
            with suppress(OSError):  # the process's end releases it, too
                self.checking.release()

    def take(self) -> None:
        """Lock these models for this process. Raises `UserError` if another one holds a lock."""
        theirs = [] if self.shared else self.folder.glob("*.lock")
        others = [filelock.FileLock(path) for path in theirs if path.stem not in self.names]
        try:
            for lock in (*self.own, *others):
                lock.acquire(timeout=0)
        except filelock.Timeout as error:
            self.release()
            owner = self.owner(Path(error.lock_file).stem)
            raise UserError(
                f"--output {self.run}: another process is at work there{owner}; wait for it, or "
                "pass another --output"
            ) from error
        finally:
            for lock in others:
                lock.release()
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        text = f" (process {os.getpid()} on {platform.node()}, since {since})"
        for name in self.names:
            write_whole(self.folder / f"{name}.owner", text.encode())

    def busy(self) -> bool:
        """Whether a process holds any model of the folder."""
        return any(map(is_held, self.folder.glob("*.lock")))

    def owner(self, name: str) -> str:
        """Who trains a model, in words; nothing if that cannot be read."""
        try:
            return (self.folder / f"{name}.owner").read_text(encoding="utf-8")[:200]
        except (OSError, UnicodeDecodeError):
            return ""

    def release(self) -> None:
        """Release the models to other processes."""
        for lock in self.own:
            with suppress(OSError):  # the process's end releases it, too
                lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds this lock."""
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True


def refuse_without_locks(folder: Path, flag: str = "--output") -> None:
    """Raise `UserError` if a folder's file system has no file locks; `OSError` for other failures.

    `filelock` would wait for ever there. `flag` is what the user chose the folder with.
    """
    if fcntl is None:
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{flag} {folder}: its file system has no file locks ({error.strerror}); pass a "
                "folder on a local disk, or start the lock service"
            ) from error
