"""A run's and the data's figures, and the style of all: drawn from arrays, without a display.

The colours are Okabe and Ito's, told apart under all common colour blindness. A `mark` is printed
across the top of a figure that must not be taken for a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
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
}
SHORT_NAMES = {"immature granulocyte": "imm. gran."}


@contextmanager
def page(path: Path, width: float, height: float, mark: str | None) -> Iterator[Figure]:
    """A figure of `width` x `height` inches, saved to `path` at the end of the block."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        if mark:
            figure.suptitle(mark, color=RED, weight="bold", size=9)
        figure.savefig(path)


def short(names: Sequence[str]) -> list[str]:
    """Class names that fit an axis."""
    return [SHORT_NAMES.get(name, name) for name in names]


def learning_curves(path: Path, history: list[dict], mark: str | None = None) -> None:
    """Loss and accuracy by epoch: the mean over runs, in the band from lowest to highest run.

    Held-out images have a line where the history has their columns.
    """
    epochs = sorted({row["epoch"] for row in history})
    lines = [("train", "training", BLUE), ("val", "held out", ORANGE)]
    lines = [line for line in lines if f"{line[0]}_loss" in history[0]]
    with page(path, 7, 2.8, mark) as figure:
        for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            last = {}
            for split, name, colour in lines:
                key = f"{split}_{quantity}"
                values = [[r[key] for r in history if r["epoch"] == epoch] for epoch in epochs]
                mean = np.mean(values, axis=1)
                axes.plot(epochs, mean, color=colour, marker=".")
                low, high = np.min(values, axis=1), np.max(values, axis=1)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.2, lw=0)
                last[name] = mean[-1], colour
            upper = max(last, key=last.get)
            for name, (value, colour) in last.items():
                at = (4, 5 if name == upper else -5)
                axes.annotate(name, (epochs[-1], value), at, textcoords="offset points",
                              color=colour, va="center")  # fmt: skip
            axes.set(xlabel="epoch (line: mean of the runs, band: their range)", ylabel=quantity)
            axes.xaxis.get_major_locator().set_params(integer=True)


def confusion_matrix(
    path: Path, counts: np.ndarray, names: Sequence[str], mark: str | None = None
) -> None:
    """Mean images a run by truth and prediction; the colour is the share of the true class."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with page(path, 5.2, 4.8, mark) as figure:
        axes = figure.subplots()
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        ticks = range(len(names))
        axes.set_xticks(ticks, short(names), rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, short(names))
        axes.set(xlabel="predicted", ylabel="true", title="images, mean over the runs' models")
        for row, column in np.argwhere(counts > 0):
            text = f"{counts[row, column]:.1f}".removesuffix(".0")
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, size=7.5)
        figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the true class")


def class_recall(path: Path, rows: list[dict], mark: str | None = None) -> None:
    """Recall by class with its 95 % interval, from the rows of `evaluation.per_class`."""
    with page(path, 5.2, 3, mark) as figure:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1]
        recall = np.array([row["recall"] for row in rows], dtype=float)
        ends = np.array([[row["recall_low"], row["recall_high"]] for row in rows]).T
        axes.errorbar(recall, places, xerr=abs(ends - recall), fmt="o", color=BLUE, capsize=2.5)
        for place, value in zip(places, recall, strict=True):
            axes.annotate(f"{value:.3f}", (value, place), (0, 5), textcoords="offset points",
                          ha="center", size=7.5)  # fmt: skip
        labels = [f"{s} ({row['support']})" for s, row in zip(
            short([row["class"] for row in rows]), rows, strict=True)]  # fmt: skip
        axes.set_yticks(places, labels)
        axes.set_xlim(max(0, ends.min() - 0.03), 1.01)
        axes.set_xlabel("recall on the test images, with 95 % interval (Wilson)")
        axes.margins(y=0.09)


def confident_mistakes(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    mark: str | None = None,
) -> None:
    """The 24 misread images with the highest probability, (N, classes), for the wrong class.

    `probabilities` may be the mean over runs' models.
    """
    names = short(names)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    with page(path, 8, 4.6, mark) as figure:
        for axes in figure.subplots(3, 8).flat:
            axes.axis("off")
        for axes, index in zip(figure.axes, worst, strict=False):
            axes.imshow(images[index])
            axes.set_title(
                f"{names[labels[index]]}\nread as {names[predicted[index]]}\n"
                f"{confidence[index]:.2f}, no. {index}",
                size=6.5,
            )
        figure.supxlabel("probability: mean over the runs' models; no.: test image", size=7)


def montage(path: Path, images: np.ndarray, side: int, mark: str | None = None) -> None:
    """The first `side` x `side` of `images`, uint8 (N, H, W, 3), with a white line between."""
    tiles = np.pad(images[: side**2], ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    missing = side**2 - len(tiles)
    tiles = np.pad(tiles, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=255)
    _, height, width, channels = tiles.shape
    grid = tiles.reshape(side, side, height, width, channels).swapaxes(1, 2)
    inches = min(2 + 0.2 * side, 5.2)
    with page(path, inches, inches, mark) as figure:
        show(figure.subplots(), grid.reshape(side * height, side * width, channels))


def show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.axis("off")


def label_distribution(path: Path, counts: dict[str, int], mark: str | None = None) -> None:
    """Training images by class, largest first; `counts` is {class: images}."""
    order = sorted(counts, key=counts.get)
    with page(path, 5.2, 2.8, mark) as figure:
        axes = figure.subplots()
        bars = axes.barh(short(order), [counts[name] for name in order], color=BLUE)
        total = sum(counts.values())
        labels = [f"{counts[name]:,} ({counts[name] / total:.1%})" for name in order]
        axes.bar_label(bars, labels, padding=3, size=8)
        axes.set(xlabel="training images", xlim=(0, max(counts.values()) * 1.25))


def split_distribution(
    path: Path, shares: dict[str, np.ndarray], names: Sequence[str], mark: str | None = None
) -> None:
    """Share of each class, (classes,), in each split."""
    with page(path, 7, 2.8, mark) as figure:
        axes = figure.subplots()
        for place, (split, share) in enumerate(shares.items()):
            at = np.arange(len(names)) + (place - 1) * 0.27
            axes.bar(at, share * 100, 0.25, color=(BLUE, ORANGE, GREEN)[place], label=split)
        axes.set_xticks(range(len(names)), short(names), rotation=25, ha="right")
        axes.set_ylabel("% of the split")
        axes.legend(frameon=False, ncols=3)


def class_examples(path: Path, images: dict[str, np.ndarray], mark: str | None = None) -> None:
    """A row a class: its first images, {class: uint8 (columns, H, W, 3)}."""
    columns = max(map(len, images.values()))
    with page(path, 0.62 * columns + 1.3, 0.62 * len(images), mark) as figure:
        grid = figure.subplots(len(images), columns, squeeze=False)
        for axes_row, (name, row) in zip(grid, images.items(), strict=True):
            for axes in axes_row:
                axes.axis("off")
            for axes, image in zip(axes_row, row, strict=False):
                show(axes, image)
            axes_row[0].text(-0.15, 0.5, *short([name]), transform=axes_row[0].transAxes,
                             ha="right", va="center")  # fmt: skip


def mean_images(path: Path, images: dict[str, np.ndarray], mark: str | None = None) -> None:
    """The mean training image of each class, {class: float (H, W, 3) of 0..255}."""
    with page(path, 7, 1.3, mark) as figure:
        for axes, (name, image) in zip(
            figure.subplots(1, len(images)), images.items(), strict=True
        ):
            show(axes, image / 255)
            axes.set_title(*short([name]), size=7.5)


def duplicates(
    path: Path, pairs: list[tuple[np.ndarray, np.ndarray, str]], mark: str | None = None
) -> None:
    """Pairs of (near) duplicate images with a caption each."""
    columns = 6
    lines = max(1, -(-len(pairs) // columns))
    with page(path, 8, 1.35 * lines, mark) as figure:
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, (first, second, caption) in zip(grid.flat, pairs, strict=False):
            gap = np.full((len(first), 2, 3), 255, first.dtype)
            show(axes, np.concatenate([first, gap, second], axis=1))
            axes.set_title(caption, size=6.5)
        if not pairs:
            grid[0, 0].text(0, 0.5, "no duplicates found")
