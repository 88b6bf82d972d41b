"""Figures of explain.py: images with their labels, predictions and activation maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from bloodcells.data.bloodmnist import CLASS_NAMES, Dataset, Split
from bloodcells.reporting.figures.style import BLUE, RED, page, short

NAMES = short(CLASS_NAMES)
SUSPECTS = 40  # suspect labels in the figure; the CSV file has all


def picture(axes: Axes, image: np.ndarray, title: str, colour: str = "black") -> None:
    """An image, uint8 (H, W, 3), with a title and no axes."""
    axes.imshow(image)
    axes.set_title(title, size=6.5, color=colour)
    axes.set_axis_off()


def errors(
    path: Path, rows: list[dict], total: int, dataset: Dataset, watermark: str | None
) -> None:
    """One row per error: the test image, then the training images nearest to it.

    `total` is the number of all errors.
    """
    columns = 1 + max((len(row["neighbours"]) for row in rows), default=1)
    with page(path, 1.0 * columns + 0.5, 1.25 * max(len(rows), 1) + 0.3, watermark) as figure:
        panels = figure.subplots(max(len(rows), 1), columns, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for line, row in zip(panels, rows, strict=False):
            words = (
                f"test {row['index']}: {NAMES[row['label']]}\npred. {NAMES[row['predicted']]}\n"
                f"p = {row['probability']:.3f}"
            )
            picture(line[0], dataset.test.images[row["index"]], words)
            for axes, index in zip(line[1:], row["neighbours"], strict=True):
                label = dataset.train.labels[index]
                colour = {row["label"]: BLUE, row["predicted"]: RED}.get(int(label), "black")
                picture(axes, dataset.train.images[index], f"{NAMES[label]}\n{index}", colour)
        figure.supxlabel(
            f"left: the {len(rows)} most confident of {total} errors on test; p of the released "
            "model, one view, calibrated\n"
            "right: the nearest training images in the network's features (blue: of the labelled "
            "class, orange: of the predicted one)",
            size=7,
        )


def suspects(path: Path, rows: list[dict], dataset: Dataset, watermark: str | None) -> None:
    """The images whose labels are least probable: the first `SUSPECTS` of `rows`."""
    columns, total = 8, len(rows)
    rows = rows[:SUSPECTS]
    lines = max(-(-len(rows) // columns), 1)
    with page(path, 1.0 * columns, 1.35 * lines + 0.4, watermark) as figure:
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for axes, row in zip(panels.flat, rows, strict=False):
            image = dataset.splits()[row["split"]].images[row["index"]]
            words = (
                f"{NAMES[row['label']]}?\n{NAMES[row['predicted']]}\n{row['split']} {row['index']}"
            )
            picture(axes, image, words)
        figure.supxlabel(
            f"{len(rows)} of {total} suspect labels; first line: label; second: prediction of a "
            "model not trained on the image",
            size=7,
        )


def maps(path: Path, rows: list[dict], split: Split, watermark: str | None) -> None:
    """An image of each class, its activation map, and the map with shuffled weights.

    A map's colours go from its greatest value's negative to that value, so that 0 is white.
    """
    with page(path, 1.0 * len(rows) + 0.4, 3.6, watermark) as figure:
        panels = figure.subplots(3, len(rows), squeeze=False)
        for column, row in zip(panels.T, rows, strict=True):
            image = split.images[row["index"]]
            picture(column[0], image, f"{NAMES[split.labels[row['index']]]}\ntest {row['index']}")
            side = len(image)
            for axes, key in zip(column[1:], ("map", "shuffled"), strict=True):
                axes.imshow(image.mean(2), cmap="gray")
                extent = (-0.5, side - 0.5, side - 0.5, -0.5)
                most = np.abs(row[key]).max() or 1
                shown = axes.imshow(
                    row[key] / most, cmap="PuOr_r", vmin=-1, vmax=1, alpha=0.65, extent=extent
                )
                axes.set_axis_off()
            column[1].set_title("map", size=6.5)
            alike = "none" if row["correlation"] is None else f"{row['correlation']:+.2f}"
            column[2].set_title(f"shuffled weights\nrank corr. {alike}", size=6.5)
        bar = figure.colorbar(shown, ax=panels[1:], shrink=0.7, ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["against", "none", "for"], size=7)
        bar.set_label("evidence for the labelled class", size=7)
        figure.supxlabel(
            "illustration: where the network finds the labelled class; bottom: the check, which "
            "must differ; each map has its own scale",
            size=7,
        )
