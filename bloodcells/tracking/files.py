"""Reading files that a run folder of others may hold, whatever they are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def regular(path: Path) -> Path:
    """The path itself. Raises `ValueError` for a pipe or a folder, which would block or fail."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")
    return path


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
