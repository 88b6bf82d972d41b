"""Which slide or person a user's images come from, by their files' names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bloodcells.errors import UserError


def slides_of(files: Sequence[str], pattern: str) -> np.ndarray:
    """The number of each file's slide, int64 (N,), by the beginning of its name.

    The slide is the pattern's first group, or all that matches if it has none. Raises `UserError`
    for a name that does not begin so, and for fewer than two slides.
    """
    group = min(1, re.compile(pattern).groups)
    found = [match and match[group] for match in (re.match(pattern, Path(f).name) for f in files)]
    if None in found:
        name = files[found.index(None)]
        raise UserError(f"--slide {pattern}: {name}: its name does not begin so")
    slides, numbers = np.unique(np.array(found, str), return_inverse=True)
    if len(slides) < 2:
        raise UserError(f"--slide {pattern}: all images are of one slide, {str(slides[0])!r}")
    return numbers
