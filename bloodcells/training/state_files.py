"""The content of a checkpoint's files: packed and read without executing anything."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from bloodcells.cli.arguments import UserError


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
