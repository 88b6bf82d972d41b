"""What a released network says of images, batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from bloodcells.cli.own_images import FRAMES
from bloodcells.data.user_images import UserImage
from bloodcells.errors import UserError
from bloodcells.inference.classifier import Released
from bloodcells.inference.fine_tuning import ENTRY
from bloodcells.inference.output import ABSTAINED, Prediction
from bloodcells.tracking.files import read_entry
from bloodcells.training.device import keep_freed_memory


def frame_of(weights: Path) -> str:
    """What to keep of an image: as finetune.py did for these weights; "auto" for all others."""
    frame = read_entry(weights.with_suffix(".json"), ENTRY, "config", "frame")
    return frame if frame in FRAMES else "auto"


def pixels_of(images: Sequence[UserImage]) -> np.ndarray:
    """The prepared pixels of usable images: uint8 (N, H, H, 3)."""
    return np.stack([cast(np.ndarray, image.pixels) for image in images])


def classify(
    images: Iterable[UserImage],
    model: Released,
    labels: Mapping[str, str | None],
    batch_size: int,
    level: str | None,
    abstain_below: float,
) -> Iterator[Prediction]:
    """A prediction for each image, with a prediction set of that level if one is named.

    `labels` are the classes of the files, None for an unknown one; empty without labels. Raises
    `UserError` for weights that give no probabilities.
    """
    keep_freed_memory()
    waiting = iter(images)
    while batch := list(itertools.islice(waiting, batch_size)):
        foreign = np.array([image.foreign for image in batch])
        rows, distances = model.predict(pixels_of(batch), foreign, batch_size)
        if not np.isfinite(rows).all():
            raise UserError("--weights: they give no probabilities; use others")
        for image, row, distance in zip(batch, rows, distances, strict=True):
            probabilities = dict(zip(model.classes, row.tolist(), strict=True))
            label = max(probabilities, key=probabilities.__getitem__)
            probability = probabilities[label]
            members = None
            if level is not None:
                members = [name for name, p in probabilities.items() if p >= model.sets[level]]
            yield Prediction(
                path=image.name,
                label=label if probability >= abstain_below else ABSTAINED,
                probability=probability,
                probabilities=probabilities,
                unlike_training=bool(distance > model.farthest),
                foreign=image.foreign,
                pixels=cast(np.ndarray, image.pixels),
                set=members,
                truth=(labels[image.file] or "") if labels else None,
                file=image.file,
                square=image.square,
            )
