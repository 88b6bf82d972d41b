"""Argparse types: each parses and checks the value of a flag."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path


def name(text: str) -> str:
    """An argparse type: a name that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name; perhaps a shell variable is not set")
    return text


def location(text: str) -> Path:
    """An argparse type: a file or folder, by a name that is not empty."""
    return Path(name(text))


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`, inclusive."""

    def convert(text: str) -> int:
        try:
            value = int(text) if text.isascii() else low - 1
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer from {low} to {high}")
        return value

    return convert


def number(text: str) -> float:
    """A float; NaN if the text is not a number in ASCII digits."""
    try:
        return float(text) if text.isascii() else math.nan
    except ValueError:
        return math.nan


def positive(text: str) -> float:
    """An argparse type: a finite number above zero."""
    value = number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def up_to(highest: float) -> Callable[[str], float]:
    """An argparse type: a number above zero, at most `highest`."""

    def convert(text: str) -> float:
        value = number(text)
        if not 0 < value <= highest:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number above 0 and at most {highest:g}"
            )
        return value

    return convert


def fraction(text: str) -> float:
    """An argparse type: a number from 0 to below 1."""
    value = number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value
