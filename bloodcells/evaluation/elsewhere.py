"""How a released network does on labelled images of another laboratory."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bloodcells.data import image_files, labelled_folders
from bloodcells.data.bloodmnist import CLASS_NAMES, Split
from bloodcells.data.class_names import Names
from bloodcells.errors import UserError
from bloodcells.evaluation import balanced_accuracy, calibration, metrics, unseen
from bloodcells.inference.adaptation import CannotAdaptError, adapt
from bloodcells.inference.cards import LEVELS
from bloodcells.inference.classifier import Released

BATCH_SIZE = 128
RENAME = "rename the folder"
SMEARS = 5  # random draws
NORMAL_SMEAR = {  # images of each class, about as in a normal adult's blood
    "neutrophil": 100,
    "lymphocyte": 50,
    "monocyte": 12,
    "eosinophil": 5,
    "basophil": 2,
}


@dataclass
class Laboratory:
    """Another laboratory's images, framed."""

    name: str
    images: Split
    slides: np.ndarray | None  # int64 (N,), each image's slide; None if not known
    slide: str | None  # what of a file's name tells it
    unusable: int  # images beside these


def read(folder: Path, size: int, slide: str | None = None) -> Laboratory:
    """The images under folders named after classes, framed.

    `slide`: what of the beginning of a file's name tells its slide. Folders with other names are
    left out and listed, as are images that cannot be used. Raises `UserError` if there are no
    images, for images of the data set's own kind, and for slides that cannot be told.
    """
    flag, names = f"--elsewhere {folder}", Names(CLASS_NAMES)
    paths = [str(folder)]
    files = image_files.find(paths)
    there = labelled_folders.read(paths, files, names, size, "auto", slide, flag, RENAME)
    if at_home := sum(not image.foreign for image in there.images):
        raise UserError(
            f"{flag}: {at_home} of its images have a size of the data set's own; pass those of "
            "another laboratory"
        )
    if by_size := sum(image.by_size for image in there.images):
        print(f"{folder}: {by_size} images have a size of MedMNIST's, so they are not framed")
    split = Split(there.pixels, there.labels)
    return Laboratory(folder.name, split, there.slides, slide, there.unusable)


def score(model: Released, images: Split) -> dict:
    """Scores over all classes, and where only the present ones can occur (`given_classes`).

    Both also after adaptation to these images, and the balanced accuracy over all classes on images
    drawn with the frequencies of normal blood, if these images allow either. `unlike` is the share
    flagged as unlike the training images, `answers` the share of each class's images by answer.
    """
    occur = np.unique(images.labels)
    given = model.among([CLASS_NAMES[label] for label in occur])
    probabilities, distances = predict(model, images)
    found = {
        **scores(images.labels, probabilities, model),
        "given_classes": scores(
            np.searchsorted(occur, images.labels), predict(given, images)[0], model
        ),
        "answers": answers(images.labels, probabilities),
        "unlike": float((distances > model.farthest).mean()),
        "probabilities": probabilities,
    }
    smears = [images.rows(rows) for rows in normal_smears(images.labels)]
    if smears:
        before = [unseen.balanced_accuracy(s.labels, predict(model, s)[0]) for s in smears]
        found["smear"] = float(np.mean(before))
    for name, network, parts in (
        ("adapted", model, [images]),
        ("adapted_given_classes", given, [images]),
        ("smear_adapted", model, smears),
    ):
        with suppress(CannotAdaptError):
            if parts:
                found[name] = float(np.mean([adapted_accuracy(network, part) for part in parts]))
    return found


def answers(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, dict[str, float]]:
    """Of each present class's images, the share that is taken for each class."""
    found = probabilities.argmax(1)
    return {
        CLASS_NAMES[label]: {
            name: float((found[labels == label] == number).mean())
            for number, name in enumerate(CLASS_NAMES)
        }
        for label in np.unique(labels)
    }


def predict(model: Released, images: Split) -> tuple[np.ndarray, np.ndarray]:
    """The model's probabilities and distances for foreign images."""
    return model.predict(images.images, np.ones(len(images), bool), BATCH_SIZE)


def adapted_accuracy(model: Released, images: Split) -> float:
    """Balanced accuracy after adaptation to the same images. Raises `CannotAdaptError`."""
    adapted, _ = adapt(model, images.images, BATCH_SIZE)
    labels = np.array([model.columns.index(label) for label in images.labels])
    return unseen.balanced_accuracy(labels, predict(adapted, images)[0])


def normal_smears(labels: np.ndarray) -> list[np.ndarray]:
    """Rows of random images with the frequencies of normal blood; empty if there are too few."""
    counts = {CLASS_NAMES.index(name): number for name, number in NORMAL_SMEAR.items()}
    rows = {label: np.flatnonzero(labels == label) for label in counts}
    if any(len(rows[label]) < number for label, number in counts.items()):
        return []
    rng = np.random.default_rng(0)
    return [
        np.concatenate([rng.choice(rows[c], number, replace=False) for c, number in counts.items()])
        for _ in range(SMEARS)
    ]


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


def summary(there: Laboratory, members: list[dict[int, dict]]) -> dict:
    """The scores of all seeds' models, by number of views: the mean and standard deviation.

    With slides, the mean balanced accuracy over all classes, and each class's recall, also have
    their 95 % intervals over them.
    """
    images, slides = there.images, there.slides
    counts = images.class_counts()
    views = {}
    for number in members[0]:
        parts = [member[number] for member in members]
        views[str(number)] = deviations([without_arrays(part) for part in parts])
        if slides is not None:
            answers = [part["probabilities"].argmax(1) == images.labels for part in parts]
            right = np.mean(answers, axis=0)
            views[str(number)] |= {
                "over_slides": balanced_accuracy.over_slides(images.labels, right, slides),
                "recalls_over_slides": recalls_over_slides(images.labels, right, slides),
            }
    return {
        "name": there.name,
        "images": len(images),
        "slide": there.slide,
        "slides": None if slides is None else int(slides.max()) + 1,
        "slides_by_class": None if slides is None else on_slides(images.labels, slides),
        "unusable": there.unusable,
        "counts": dict(zip(CLASS_NAMES, counts.tolist(), strict=True)),
        "majority_class_accuracy": float(counts.max() / len(images)),
        "views": views,
    }


def recalls_over_slides(
    labels: np.ndarray, right: np.ndarray, slides: np.ndarray
) -> dict[str, dict]:
    """The recall of each present class, with its 95 % interval over slides."""
    return {
        CLASS_NAMES[label]: balanced_accuracy.recall_over_slides(
            right[labels == label], slides[labels == label]
        )
        for label in np.unique(labels)
    }


def on_slides(labels: np.ndarray, slides: np.ndarray) -> dict[str, int]:
    """On how many slides each present class is."""
    return {
        CLASS_NAMES[label]: len(np.unique(slides[labels == label])) for label in np.unique(labels)
    }


def without_arrays(found: dict) -> dict:
    """The scores alone."""
    return {key: value for key, value in found.items() if not isinstance(value, np.ndarray)}


def deviations(parts: list[dict]) -> dict:
    """The mean, standard deviation and values of each number that all nested dictionaries have."""
    found = {}
    for key in parts[0]:
        if not all(key in part for part in parts):
            continue
        values = [part[key] for part in parts]
        if isinstance(values[0], dict):
            found[key] = deviations(values)
        else:
            found[key] = metrics.mean_and_deviation(values) | {"values": values}
    return found


def line(found: dict[int, dict]) -> str:
    """Balanced accuracies on another laboratory's images, as one line."""
    return ", ".join(
        f"{views} views {part['balanced_accuracy']:.3f} of all classes, "
        f"{part['given_classes']['balanced_accuracy']:.3f} of those present"
        for views, part in found.items()
    )
