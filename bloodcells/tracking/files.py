"""Find run folders, and read JSON files that may be damaged."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from bloodcells import ROOT

CHECKPOINTS = "checkpoint"  # in a run folder: what an unfinished experiment is resumed from
IDENTITY = f"{CHECKPOINTS}/identity.json"  # what that experiment is


def regular(path: Path) -> Path:
    """The path itself. Raises `ValueError` for a pipe or a folder, which would block or fail."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")
    return path


def find(path: Path) -> Path:
    """`path` if it exists; else `path` in the project's folder, or in its `plots/`.

    Where there is neither, the path in the project's folder, for an error to name. Of a folder
    named "." or "..", which says nothing to a reader, the absolute path.
    """
    if path.name in ("", ".."):
        path = Path(os.path.normpath(path.absolute()))
    places = (path, ROOT / path, ROOT / "plots" / path)
    return next((place for place in places if place.exists()), places[1])


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises `OSError` if it cannot be read.

    Raises `ValueError` for what is not JSON, for numbers that a float cannot hold, and for values
    nested too deeply to be read.
    """
    text = regular(path).read_text(encoding="utf-8")
    try:
        return json.loads(text, parse_int=whole, parse_float=finite, parse_constant=finite)
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error


def read_entry(path: Path, *keys: str) -> Any:
    """The value under `keys` of a JSON file; None if the file or an entry cannot be read."""
    try:
        value = read_json(path)
        for key in keys:
            value = value[key]
        return value
    except (OSError, ValueError, LookupError, TypeError):
        return None


def version_of(path: Path) -> tuple[int, int] | None:
    """What tells a file from the one that replaces it; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def finite(text: str) -> float:
    """A number of a JSON text. Raises `ValueError` if it is NaN or infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def whole(text: str) -> int:
    """A whole number of a JSON text. Raises `ValueError` if a float cannot hold it."""
    finite(text)
    return int(text)
