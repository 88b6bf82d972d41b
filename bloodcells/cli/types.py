"""Argparse types: each parses and checks the value of a flag."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

from bloodcells.tracking.files import read_entry


def non_empty(text: str) -> str:
    """An argparse type: a name that is not empty, and that the system can have."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name; perhaps a shell variable is not set")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} has a null character")
    return text


def location(text: str) -> Path:
    """An argparse type: a file or folder, by a name that is not empty."""
    return Path(os.path.expanduser(non_empty(text)))  # of --flag=~/..., the shell leaves the ~


def named_folder(text: str) -> Path:
    """An argparse type: a folder whose name is recorded; of "." or "..", the absolute path."""
    path = location(text)
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))


def weights_to_write(text: str) -> Path:
    """An argparse type: a file for released weights, new or one whose card is beside it."""
    path = location(text)
    card = path.with_suffix(".json")
    if path.suffix != ".safetensors":
        raise argparse.ArgumentTypeError(f"{text}: the name must end in .safetensors")
    if (path.exists() or card.exists()) and not is_card(card):
        raise argparse.ArgumentTypeError(f"{text}: not of this project; pass another name")
    return path


def is_card(path: Path) -> bool:
    """Whether a file is the card of released weights."""
    card = read_entry(path)
    return isinstance(card, dict) and {"md5", "classes", "calibration"} <= card.keys()


def regex(text: str) -> str:
    """An argparse type: a regular expression that does not match the empty string."""
    try:
        empty = re.match(non_empty(text), "")
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    if empty:
        raise argparse.ArgumentTypeError(f"{text!r} matches an empty name, and so every name")
    return text


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`, inclusive."""

    def convert(text: str) -> int:
        value = number(text, int)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer from {low} to {high}")
        return int(value)

    return convert


def integer(text: str) -> int:
    """An argparse type: an integer, for a flag with choices."""
    value = number(text, int)
    if not isinstance(value, int):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer")
    return value


def number(text: str, kind: type[int] | type[float] = float) -> float:
    """A number; NaN if the text is none, or not in ASCII digits alone, without separators."""
    try:
        return kind(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan


def real(inside: Callable[[float], bool], words: str) -> Callable[[str], float]:
    """An argparse type: a number that is `inside`; `words` say what that is."""

    def convert(text: str) -> float:
        value = number(text)
        if not inside(value):  # NaN never is
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return convert


positive = real(lambda value: 0 < value < math.inf, "a positive number")
fraction = real(lambda value: 0 <= value < 1, "a number from 0 to below 1")


def up_to(highest: float) -> Callable[[str], float]:
    """An argparse type: a number above zero, at most `highest`."""
    return real(lambda value: 0 < value <= highest, f"a number above 0 and at most {highest:g}")
