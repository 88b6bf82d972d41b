"""Figures of robustness.py: accuracy by corruption and severity, and example images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.data import corruptions
from bloodcells.reporting.figures.style import BLUE, GREEN, GREY, LINES, ORANGE, RED, page, plain
from bloodcells.reporting.tables.cells import either
from bloodcells.reporting.tables.release import TRAINED_ON

COLOURS = (ORANGE, BLUE, GREEN, RED, GREY)


def curves(path: Path, rows: list[dict], watermark: str | None) -> None:
    """Accuracy by severity, one panel per corruption: mean over models, band of their range."""
    clean, *corrupted = rows
    kinds = list(dict.fromkeys(row["corruption"] for row in corrupted))
    columns = 4
    lines = -(-(len(kinds) + 1) // columns)  # the last panel has the legend
    with page(path, 7.5, max(2.2, 1.6 * lines), watermark) as figure:
        panels = [*figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat]
        for axes in panels[max(0, len(kinds) - columns) : len(kinds)]:  # below some is the legend
            axes.tick_params(labelbottom=True)
        for axes, kind in zip(panels, kinds, strict=False):
            shown = [clean, *(row for row in corrupted if row["corruption"] == kind)]
            severities = [row["severity"] for row in shown]
            for number, name in enumerate(clean["accuracy"]):
                colour, style = (
                    COLOURS[number % len(COLOURS)],
                    LINES[number // len(COLOURS) % len(LINES)],
                )
                values = 100 * np.array([row["accuracy"][name] for row in shown])
                axes.plot(severities, values.mean(1), style, color=colour, label=plain(name))
                axes.fill_between(
                    severities, values.min(1), values.max(1), color=colour, alpha=0.25, lw=0
                )
            axes.set(title=kind, xticks=(0, *corruptions.SEVERITIES))
        first = panels[0]
        for axes in panels[len(kinds) :]:
            axes.set_axis_off()
        panels[-1].legend(*first.get_legend_handles_labels(), frameon=False, loc="center")
        figure.supylabel("accuracy on test images, %", size=9)
        models = either(map(len, clean["accuracy"].values()))
        words = f"severity (0: clean); one view; line: mean over {models} models, band: their range"
        if "cnn-robust" in clean["accuracy"]:
            new = " and ".join(kind for kind in kinds if TRAINED_ON.get(kind) is None)
            words += "\ncnn-robust was trained on changes like these"
            words += f", except {new}" if new else ""
        figure.supxlabel(words, size=8)


def strips(path: Path, examples: dict[str, list[np.ndarray]], watermark: str | None) -> None:
    """One image, clean and at each severity, one row per corruption."""
    columns = 1 + len(corruptions.SEVERITIES)
    with page(path, 5.5, 0.75 * len(examples) + 0.3, watermark) as figure:
        panels = figure.subplots(len(examples), columns, squeeze=False)
        for row, (kind, images) in zip(panels, examples.items(), strict=True):
            for severity, (axes, image) in enumerate(zip(row, images, strict=True)):
                axes.imshow(image)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if axes.get_subplotspec().is_first_row():
                    axes.set_title(str(severity))
            row[0].set_ylabel(kind, rotation=0, ha="right", va="center")
        figure.supxlabel("columns: severity (0: clean)", size=8)
