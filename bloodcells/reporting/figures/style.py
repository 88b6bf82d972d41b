"""The style of all figures, which are drawn without a display.

The colours are Okabe and Ito's, distinct under all common forms of colour blindness. A `watermark`
is printed across the top of a figure that must not be taken for a result; most figures require it,
so that no caller forgets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bloodcells.evaluation.metrics import wilson_interval

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, RED, GREY)  # of lines and bars, in this order
LINES = ("-", "--", ":", "-.")  # of further lines, once all colours are used
STYLE = {
    "figure.dpi": 160,
    "savefig.dpi": 160,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType: some publishers refuse Type 3
}
SHORT_NAMES = {
    "immature granulocyte": "imm. gran.",
    "immature granulocyte (no stage)": "imm. gran. (no stage)",
    "promyelocyte": "promyel.",
    "metamyelocyte": "metamyel.",
    "band neutrophil": "band",
    "segmented neutrophil": "segmented",
}


@contextmanager
def page(path: Path, width: float, height: float, watermark: str | None) -> Iterator[Figure]:
    """A figure of `width` x `height` inches, saved to `path` at the end of the block."""
    with matplotlib.rc_context(cast(Any, STYLE)):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        if watermark:
            figure.suptitle(watermark, color=RED, weight="bold", size=9)
        figure.savefig(path)


def plain(name: str) -> str:
    """A name from outside: no mathematics between its dollars; question marks for surrogates."""
    return name.encode(errors="replace").decode().replace("$", r"\$")


def short(names: Sequence[str]) -> list[str]:
    """Class names short enough for an axis."""
    return [plain(SHORT_NAMES.get(name, name)) for name in names]


def error_bars(
    shares: Sequence[float] | np.ndarray, counts: Sequence[int] | np.ndarray
) -> np.ndarray:
    """How far the 95 % intervals reach below and above some shares of so many images: (2, N)."""
    pairs = zip(shares, counts, strict=True)
    ends = np.array([wilson_interval(share * count, count) for share, count in pairs])
    return abs(ends.T - np.asarray(shares))
