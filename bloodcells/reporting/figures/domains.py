"""A figure of one image per class, at home, changed and elsewhere, with the accuracies there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bloodcells.data import corruptions
from bloodcells.data.bloodmnist import Split
from bloodcells.reporting.figures.style import page, plain, short


def domains(path: Path, rows: Sequence[tuple[str, Split, str]], watermark: str | None) -> None:
    """One row per domain: its name, its images, of which the first of each class is shown, a score.

    A class without images there is left blank.
    """
    names = rows[0][1].names
    with page(path, 1.5 + 0.75 * len(names), 0.8 * len(rows) + 0.3, watermark) as figure:
        panels = figure.subplots(len(rows), len(names), squeeze=False)
        for line, (name, images, score) in zip(panels, rows, strict=True):
            for label, axes in enumerate(line):
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if len(of_class := images.of_class(label)):
                    axes.imshow(of_class[0])
            line[0].set_ylabel(
                f"{plain(name)}\n{score}", rotation=0, ha="right", va="center", size=8
            )
        for axes, name in zip(panels[0], short(names), strict=True):
            axes.set_title(name, size=7)


def corrupted_examples(images: Split, severity: int, seed: int) -> Split:
    """One image of each class, each under another corruption."""
    labels = range(len(images.names))
    kinds = list(corruptions.CORRUPTIONS)
    changed = [
        corruptions.corrupt(images.of_class(label)[:1], kinds[label % len(kinds)], severity, seed)
        for label in labels
    ]
    return Split(np.concatenate(changed), np.array(labels), images.names)
