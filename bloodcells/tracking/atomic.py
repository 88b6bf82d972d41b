"""Writing files so that a failure, an interruption or a power cut loses nothing."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bloodcells.errors import UserError

SCRATCH = ".writing-"  # begins the names of folders for what is being written
EARLIER = ".earlier-"  # and of those for earlier results, until the new ones are in place
DAY = 86400.0  # seconds
IN_USE = (5, 32)  # Windows: access is denied, a sharing violation
WAITS = (0.02, 0.1, 0.5, 1.5)  # seconds


def exchange(folder: Path, new: Path, names: Sequence[str], old: Sequence[Path]) -> None:
    """Move the files `old` out of `folder` and the files of `new` in: all, or none.

    The last of `names` marks a finished experiment: it is moved out first, and in last. Raises
    `OSError`, and `UserError` if then the files `old` cannot be moved back.
    """
    if folders := [path for path in old if path.is_dir() and not path.is_symlink()]:
        raise IsADirectoryError(errno.EISDIR, f"{folders[0].name} there is a folder")
    away = new_folder(folder, EARLIER)
    old = sorted(old, key=lambda path: path.name != names[-1])
    going = [(path, away / path.name) for path in old]
    coming = [(new / name, folder / name) for name in names]
    try:
        for source, target in going:
            with suppress(FileNotFoundError):  # another process may be writing the same results
                rename(source, target)
        for source, target in coming:
            rename(source, target)
    except BaseException as error:
        try:
            for source, target in reversed(going + coming):
                if os.path.lexists(target) and not os.path.lexists(source):
                    rename(target, source)
            away.rmdir()
        except OSError:
            raise UserError(f"{folder}: {error}; the earlier results are in {away}") from error
        raise
    keep_names(folder)
    remove(away)
    sweep(folder, f"{EARLIER}*")


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder within `folder` for the block; says so if it cannot be removed."""
    sweep(folder, f"{SCRATCH}*")
    scratch = new_folder(folder, SCRATCH)
    try:
        yield scratch
    finally:
        remove(scratch)


def new_folder(parent: Path, prefix: str) -> Path:
    """A new folder, whose files get the permissions that are usual in its parent.

    Files made in a folder of `tempfile` are, on Windows, for their owner alone, also once moved.
    """
    folder = parent / f"{prefix}{secrets.token_hex(8)}"
    folder.mkdir()
    return folder


def remove(scratch: Path) -> None:
    """Delete a folder of ours, or say that it is left."""
    with suppress(OSError):
        shutil.rmtree(scratch)
    if scratch.exists():
        print(f"{scratch} could not be removed; it can be deleted", file=sys.stderr)


def sweep(folder: Path, pattern: str) -> None:
    """Delete what killed processes left: files and folders of that name, older than a day."""
    with suppress(OSError):  # another may be faster
        for left in folder.glob(pattern):
            if time.time() - left.lstat().st_mtime > DAY:
                discard(left)


def discard(left: Path) -> None:
    """Delete a file, a link or a folder; what a link leads to stays."""
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left)
    else:
        left.unlink()


def write_whole(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file atomically; if that fails, keep the previous one and raise `UserError`.

    `durable`: it is on disk at the end, and survives a power cut.
    """
    if durable:
        sweep(path.parent, f"{glob.escape(path.name)}.*.part")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        rename(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; the previous file is unchanged"
        ) from error
    if durable:
        keep_names(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename a file, over one that is there. Raises `OSError`.

    On Windows, a virus scanner or an indexer may have either open for a moment.
    """
    for seconds in WAITS:
        try:
            source.replace(target)
            return
        except OSError as error:
            if getattr(error, "winerror", None) not in IN_USE:
                raise
        time.sleep(seconds)
    source.replace(target)


def keep_names(folder: Path) -> None:
    """Flush the folder's file names to disk, where the system can, to survive a power cut."""
    if sys.platform != "win32":
        with suppress(OSError):  # not every file system supports it
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
