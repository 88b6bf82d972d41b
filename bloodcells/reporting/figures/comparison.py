"""Figures of experiments side by side: their curves, and the images on which they differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bloodcells.data.bloodmnist import Split
from bloodcells.reporting.figures.style import COLOURS, page, short
from bloodcells.reporting.figures.training import over_models

SHOWN = 24


def curves(path: Path, histories: Mapping[str, list[dict]]) -> None:
    """Held-out loss and accuracy by epoch, one line per experiment: the mean over its models.

    An experiment that holds nothing out has its training loss and accuracy instead.
    """
    with page(path, 7.4, 3, None) as figure:
        for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for number, (name, history) in enumerate(histories.items()):
                split = "val" if f"val_{quantity}" in history[0] else "train"
                epochs, mean, low, high = over_models(history, f"{split}_{quantity}")
                colour = COLOURS[number % len(COLOURS)]
                label = name + (", held out" if split == "val" else ", training")
                line = "-" if number < len(COLOURS) else "--"
                axes.plot(epochs, mean, line, color=colour, marker=".", label=label)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
            axes.set(xlabel="epoch", ylabel=quantity)
            axes.xaxis.get_major_locator().set_params(integer=True)
        legend = figure.legend(
            *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def differing(
    path: Path, test: Split, probabilities: tuple[np.ndarray, np.ndarray], names: tuple[str, str]
) -> None:
    """The images that only one of two experiments reads correctly, the clearest first.

    `probabilities` are each one's, (N, classes), the mean over its models.
    """
    first, second = (part.argmax(1) == test.labels for part in probabilities)
    everything = np.arange(len(test))
    gain = probabilities[1][everything, test.labels] - probabilities[0][everything, test.labels]
    read = short(test.names)
    with page(path, 8, 5.6, None) as figure:
        rows = np.ravel(np.asarray(figure.subfigures(2, 1)))
        for part, right, sign, name in zip(
            rows, (second & ~first, first & ~second), (1, -1), reversed(names), strict=True
        ):
            found = np.flatnonzero(right)
            found = found[np.argsort(-sign * gain[found], kind="stable")]
            shown = min(len(found), SHOWN // 2)
            words = (
                f"{len(found)} images that only {name} reads correctly, its models' mean answer; "
                f"the clearest {shown}"
            )
            part.suptitle(words, size=9, parse_math=False)
            for axes in part.subplots(2, SHOWN // 4).flat:
                axes.axis("off")
            wrong = probabilities[0 if sign == 1 else 1].argmax(1)
            for axes, index in zip(part.axes, found, strict=False):
                axes.imshow(test.images[index])
                axes.set_title(
                    f"{read[test.labels[index]]}\nelse {read[wrong[index]]}\nno. {index}", size=6.5
                )
