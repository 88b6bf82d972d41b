"""How a released network does on labelled images of another laboratory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcells.data import class_names, user_images
from bloodcells.data.bloodmnist import CLASS_NAMES, Split
from bloodcells.errors import UserError
from bloodcells.evaluation import calibration, metrics, unseen
from bloodcells.inference.classifier import LEVELS, Released


def read(folder: Path, size: int) -> tuple[Split, int]:
    """The images under folders named after classes, framed, and how many could not be used.

    Raises `UserError` if there are none.
    """
    names = class_names.Names(CLASS_NAMES)
    files = user_images.find([str(folder)])
    labels = class_names.labels_of(files, names)
    known = [file for file, label in labels.items() if label is not None]
    images = list(user_images.read(known, size, "auto"))
    usable = [image for image in images if image.pixels is not None]
    if not usable:
        raise UserError(f"{folder}: none of its images can be used")
    numbers = [CLASS_NAMES.index(str(labels[image.file])) for image in usable]
    pixels = np.stack([np.asarray(image.pixels) for image in usable])
    return Split(pixels, np.array(numbers)), len(images) - len(usable)


def score(model: Released, images: Split) -> dict:
    """Scores over all classes, and where only the present ones can occur (`given_classes`).

    `unlike` is the share flagged as unlike the training images.
    """
    present = [CLASS_NAMES[label] for label in np.unique(images.labels)]
    every = np.ones(len(images), bool)
    probabilities, distances = model.predict(images.images, every, batch_size=128)
    given, _ = model.among(present).predict(images.images, every, batch_size=128)
    labels = np.searchsorted(np.unique(images.labels), images.labels)
    return {
        **scores(images.labels, probabilities, model),
        "given_classes": scores(labels, given, model),
        "unlike": float((distances > model.farthest).mean()),
        "probabilities": probabilities,
    }


def scores(labels: np.ndarray, probabilities: np.ndarray, model: Released) -> dict:
    """Balanced accuracy, calibration, and the coverage and size of prediction sets."""
    sets = {
        level: {
            "coverage": float((calibration.true_class(labels, probabilities) >= least).mean()),
            "size": float((probabilities >= least).sum(1).mean()),
        }
        for level, least in ((level, model.sets[level]) for level in LEVELS)
    }
    return {
        "balanced_accuracy": unseen.balanced_accuracy(labels, probabilities),
        **calibration.scores(labels, probabilities),
        "sets": sets,
    }


def summary(folder: Path, images: Split, unusable: int, members: list[dict[int, dict]]) -> dict:
    """The scores of all seeds' models, by number of views: the mean and standard deviation."""
    counts = images.class_counts()
    views = {}
    for number in members[0]:
        parts = [without_arrays(member[number]) for member in members]
        views[str(number)] = deviations(parts)
    return {
        "name": folder.name,
        "images": len(images),
        "unusable": unusable,
        "counts": dict(zip(CLASS_NAMES, counts.tolist(), strict=True)),
        "majority_class_accuracy": float(counts.max() / len(images)),
        "views": views,
    }


def without_arrays(found: dict) -> dict:
    """The scores alone."""
    return {key: value for key, value in found.items() if not isinstance(value, np.ndarray)}


def deviations(parts: list[dict]) -> dict:
    """The mean and standard deviation of each number in equally nested dictionaries."""
    return {
        key: deviations([part[key] for part in parts])
        if isinstance(value, dict)
        else metrics.mean_and_deviation([part[key] for part in parts])
        for key, value in parts[0].items()
    }
