"""Files that are there as a whole or not at all, and are read without executing anything."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path

import torch

from command_line import UserError


def packed(content: dict, mark: str) -> bytes:
    """The bytes of a file; `mark` tells the run that it is of."""
    buffer = io.BytesIO()
    torch.save({**content, "mark": mark}, buffer)
    return buffer.getvalue()


def read(path: Path, mark: str) -> dict | None:
    """A file's content, None if there is none. Nothing in it is executed. Raises `UserError`."""
    try:
        file = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if content.pop("mark") != mark:
            raise ValueError("it is of another run")
        return content
    except Exception as error:  # a damaged file raises one of many kinds
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(f"{path}: damaged, or not of this run: {reason}; delete it to train it anew")


def write(path: Path, content: bytes) -> None:
    """Put a file in place as a whole, or leave the one that is there. Raises `UserError`."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; what was kept before is left"
        ) from error
    if sys.platform != "win32":  # the name in the folder is to survive a power cut too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system can
                os.fsync(folder)
        finally:
            os.close(folder)
