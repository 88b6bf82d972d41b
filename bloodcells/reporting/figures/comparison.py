"""Figures of experiments side by side: their curves, and the images on which they differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import SubFigure

from bloodcells.data.bloodmnist import Split
from bloodcells.reporting.figures.style import COLOURS, LINES, page, plain, short
from bloodcells.reporting.figures.training import over_models

SHOWN = 12  # images of each experiment


def curves(path: Path, histories: Mapping[str, list[dict]], watermark: str | None) -> None:
    """Held-out loss and accuracy by epoch, one line per experiment: the mean over its models.

    An experiment that holds nothing out has its training loss and accuracy instead.
    """
    rows = -(-len(histories) // 2)  # of the legend
    with page(path, 7.4, 2.8 + 0.2 * rows, watermark) as figure:
        for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for number, (name, history) in enumerate(histories.items()):
                split = "val" if f"val_{quantity}" in history[0] else "train"
                epochs, mean, low, high = over_models(history, f"{split}_{quantity}")
                colour = COLOURS[number % len(COLOURS)]
                label = plain(name) + (", held out" if split == "val" else ", training")
                line = LINES[number // len(COLOURS) % len(LINES)]
                axes.plot(epochs, mean, line, color=colour, marker=".", label=label)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
            axes.set(xlabel="epoch", ylabel=quantity)
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside lower center",
            ncols=2,
            title="line: mean over models, band: their range",
            title_fontsize=8,
        )


def differing(
    path: Path,
    test: Split,
    probabilities: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    watermark: str | None,
) -> None:
    """The images that only one of two experiments reads correctly, the clearest first.

    `probabilities` are each one's, (N, classes), the mean over its models.
    """
    first, second = probabilities
    with page(path, 8, 5.6, watermark) as figure:
        upper, lower = np.ravel(np.asarray(figure.subfigures(2, 1)))
        only_right(upper, test, names[1], second, first)
        only_right(lower, test, names[0], first, second)


def only_right(
    panel: SubFigure, test: Split, name: str, ours: np.ndarray, theirs: np.ndarray
) -> None:
    """The images that the experiment `name` reads correctly and the other does not.

    `ours` and `theirs` are probabilities, (N, classes). Those that differ most come first.
    """
    everything, classes = np.arange(len(test)), short(test.names)
    wrong = theirs.argmax(1)
    found = np.flatnonzero((ours.argmax(1) == test.labels) & (wrong != test.labels))
    gain = ours[everything, test.labels] - theirs[everything, test.labels]
    found = found[np.argsort(-gain[found], kind="stable")]
    words = (
        f"{len(found)} images that only {plain(name)} reads correctly, its models' mean answer; "
        f"the clearest {min(len(found), SHOWN)}"
    )
    panel.suptitle(words, size=9)
    for axes in panel.subplots(2, SHOWN // 2).flat:
        axes.axis("off")
    for axes, index in zip(panel.axes, found, strict=False):
        axes.imshow(test.images[index])
        label, other = classes[test.labels[index]], classes[wrong[index]]
        axes.set_title(f"{label}\nelse {other}\nno. {index}", size=6.5)
