"""Which slide or person a user's images come from, by their files' names."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bloodcells.errors import UserError


def slides_of(files: Sequence[str], pattern: str) -> np.ndarray:
    """The number of each file's slide, int64 (N,), by the beginning of its name.

    The slide is the pattern's first group, or all that matches if it has none. Accents are
    composed, which some file systems take apart. Raises `UserError` for a name that does not begin
    so, and for fewer than two slides.
    """
    names = [unicodedata.normalize("NFC", Path(file).name) for file in files]
    expression = re.compile(unicodedata.normalize("NFC", pattern))
    group = min(1, expression.groups)
    found = [match and match[group] for match in map(expression.match, names)]
    if None in found:
        name = files[found.index(None)]
        raise UserError(f"--slide {pattern}: {name}: its name does not begin so")
    slides, numbers = np.unique(np.array(found, str), return_inverse=True)
    if len(slides) < 2:
        raise UserError(f"--slide {pattern}: all images are of one slide, {str(slides[0])!r}")
    return numbers


def check_pattern(files: Sequence[str], pattern: str) -> None:
    """Ask back if there are more than half as many slides as files. Raises as `slides_of`."""
    slides = slides_of(files, pattern).max() + 1
    if 2 * slides > len(files):
        print(
            f"--slide {pattern}: {len(files)} images would be of {slides} slides; does the pattern "
            "match more of a name than the slide? Then scores are as if held out at random",
            file=sys.stderr,
        )
