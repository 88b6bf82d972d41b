"""Figures of the data: montages, class counts, examples, mean images, duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from bloodcells.reporting.figures.style import BLUE, GREEN, ORANGE, page, short

MOST_PIXELS = 800  # of a side that a figure shows one by one
MOST_PAIRS = 60  # of duplicates; more take minutes to draw


def montage(path: Path, images: np.ndarray, side: int, watermark: str | None) -> None:
    """The first `side` x `side` of `images`, uint8 (N, H, W, 3), with white lines between."""
    tiles = np.pad(images[: side**2], ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    missing = side**2 - len(tiles)
    tiles = np.pad(tiles, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=255)
    _, height, width, channels = tiles.shape
    grid = tiles.reshape(side, side, height, width, channels).swapaxes(1, 2)
    inches = min(2 + 0.2 * side, 5.2)
    with page(path, inches, inches, watermark) as figure:
        # a large one has more pixels than the figure: averaged, or some lines would be left out
        how = "hanning" if side * width > MOST_PIXELS else "nearest"
        show(figure.subplots(), grid.reshape(side * height, side * width, channels), how)


def show(axes: Axes, image: np.ndarray, interpolation: str = "nearest") -> None:
    """An image on axes without ticks."""
    axes.imshow(image, interpolation=interpolation)
    axes.axis("off")


def label_distribution(path: Path, counts: dict[str, int], watermark: str | None) -> None:
    """Training images by class, largest first; `counts` is {class: images}."""
    order = sorted(counts, key=counts.__getitem__)
    with page(path, 5.2, 2.8, watermark) as figure:
        axes = figure.subplots()
        bars = axes.barh(short(order), [counts[name] for name in order], color=BLUE)
        total = sum(counts.values())
        labels = [f"{counts[name]:,} ({counts[name] / total:.1%})" for name in order]
        axes.bar_label(bars, labels, padding=3, size=8)
        axes.set(xlabel="training images", xlim=(0, max(counts.values()) * 1.25))


def split_distribution(
    path: Path, shares: dict[str, np.ndarray], names: Sequence[str], watermark: str | None = None
) -> None:
    """Share of each class, (classes,), in each split."""
    with page(path, 7, 2.8, watermark) as figure:
        axes = figure.subplots()
        for place, (split, share) in enumerate(shares.items()):
            at = np.arange(len(names)) + (place - 1) * 0.27
            axes.bar(at, share * 100, 0.25, color=(BLUE, ORANGE, GREEN)[place], label=split)
        axes.set_xticks(range(len(names)), short(names), rotation=25, ha="right")
        axes.set_ylabel("% of the split")
        axes.legend(frameon=False, ncols=3)


def class_examples(path: Path, images: dict[str, np.ndarray], watermark: str | None = None) -> None:
    """One row per class: its first images, {class: uint8 (columns, H, W, 3)}."""
    columns = max(map(len, images.values()))
    with page(path, 0.62 * columns + 1.3, 0.62 * len(images), watermark) as figure:
        example_rows(figure, images)


def batch_examples(path: Path, batches: dict[str, dict[str, np.ndarray]]) -> None:
    """The images of `class_examples` for each batch, side by side under its name."""
    columns = sum(max(map(len, images.values())) for images in batches.values())
    rows = max(map(len, batches.values()))
    with page(path, 0.62 * columns + 1.3 * len(batches), 0.62 * rows + 0.3, None) as figure:
        parts = figure.subfigures(1, len(batches), squeeze=False)
        for part, (name, images) in zip(parts[0], batches.items(), strict=True):
            part.suptitle(name, size=9)
            example_rows(part, images)


def example_rows(figure: FigureBase, images: dict[str, np.ndarray]) -> None:
    """Draw a row of images for each class into a figure or a part of one."""
    grid = figure.subplots(len(images), max(map(len, images.values())), squeeze=False)
    for axes_row, (name, row) in zip(grid, images.items(), strict=True):
        for axes in axes_row:
            axes.axis("off")
        for axes, image in zip(axes_row, row, strict=False):
            show(axes, image)
        axes_row[0].text(
            -0.15, 0.5, *short([name]), transform=axes_row[0].transAxes, ha="right", va="center"
        )


def mean_images(path: Path, images: dict[str, np.ndarray], watermark: str | None) -> None:
    """The mean training image of each class, {class: float (H, W, 3) of 0..255}."""
    with page(path, 7, 1.3, watermark) as figure:
        for axes, (name, image) in zip(
            figure.subplots(1, len(images)), images.items(), strict=True
        ):
            show(axes, image / 255)
            axes.set_title(*short([name]), size=7.5)


def duplicates(
    path: Path, pairs: list[tuple[np.ndarray, np.ndarray, str]], watermark: str | None = None
) -> None:
    """Pairs of exact or near-duplicate images, the first `MOST_PAIRS`, each with a caption.

    The difference in a caption is that of `duplicates.near_pairs`.
    """
    columns = 6
    found, pairs = len(pairs), pairs[:MOST_PAIRS]
    lines = max(1, -(-len(pairs) // columns))
    with page(path, 8, 1.35 * lines, watermark) as figure:
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, (first, second, caption) in zip(grid.flat, pairs, strict=False):
            gap = np.full((len(first), 2, 3), 255, first.dtype)
            show(axes, np.concatenate([first, gap, second], axis=1))
            axes.set_title(caption, size=6.5)
        figure.supxlabel(
            "differ by: root mean square difference of the stored values (0 to 255), in the best "
            "of eight turns and reflections"
            + (f"; {len(pairs)} of {found} pairs" if found > len(pairs) else ""),
            size=7,
        )
        if not pairs:
            grid[0, 0].text(0, 0.5, "no duplicates found")
