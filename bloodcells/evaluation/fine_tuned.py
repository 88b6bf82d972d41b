"""What a last layer fitted to a laboratory's images gains, on slides that it was not fitted to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor
from tqdm import tqdm

from bloodcells.evaluation import balanced_accuracy, metrics, unseen
from bloodcells.inference.cards import VIEWS
from bloodcells.inference.classifier import Released
from bloodcells.inference.fine_tuning import fit_last_layer, probabilities

FOLDS = 5
SHOTS = (3, 5, 10, 20, 40)  # images of each class, for the curve
DRAWS = 10  # of so many images at random
MOST_VIEWS = max(VIEWS)


@dataclass
class LaboratoryImages:
    """A laboratory's labelled images, as a released network sees them."""

    files: list[str]
    labels: np.ndarray  # int64 (N,), indices of the network's classes
    slides: np.ndarray | None  # int64 (N,), numbers; None if not known
    released: np.ndarray  # (N, classes), the released network's probabilities, of eight views
    features: Tensor  # float32 (8, N, d), of each image's views
    distances: np.ndarray  # (N,), to the training images

    def groups(self) -> np.ndarray:
        """What is held out and resampled together, int64 (N,): slides, or else single images."""
        return np.arange(len(self.labels)) if self.slides is None else self.slides


def study(
    model: Released, images: LaboratoryImages, seed: int
) -> tuple[dict, dict[int, np.ndarray]]:
    """The scores for metrics.json, and the held-out probabilities (N, classes) by number of views.

    All of the network's classes can occur, but for `given_classes`. The scores are those of eight
    views, each image's by a fit to images of other slides; `at_random`: to other images.
    """
    folds = folds_of(images, seed)
    fitted = {views: held_out(model, images, folds, views) for views in VIEWS}
    before, after = images.released.argmax(1), fitted[MOST_VIEWS].argmax(1)
    present = np.unique(images.labels)
    given = present[images.released[:, present].argmax(1)]
    rows = by_class(images, before, after, without_labels(model, images, folds), model.classes)
    answered = {"released": before, "given_classes": given, "fine_tuned": after}
    right = {name: found == images.labels for name, found in answered.items()}
    at_random = None
    if images.slides is not None:
        alone = replace(images, slides=None)
        found = held_out(model, alone, folds_of(alone, seed), MOST_VIEWS)
        at_random = unseen.balanced_accuracy(images.labels, found)
    return {
        **{name: score_of(images, each) for name, each in right.items()},
        "at_random": at_random,
        "gain": balanced_accuracy.gain_over_slides(
            images.labels, right["released"], right["fine_tuned"], images.groups()
        ),
        "paired": metrics.mcnemar(images.labels, before, after),
        "classes": rows,
        "curve": learning_curve(model, images, seed),
    }, fitted


def score_of(images: LaboratoryImages, right: np.ndarray) -> dict[str, float]:
    """The balanced accuracy, with its interval over slides; over images if those are not known."""
    if images.slides is not None:
        return balanced_accuracy.over_slides(images.labels, right, images.slides)
    _, present, counts = np.unique(images.labels, return_inverse=True, return_counts=True)
    return balanced_accuracy.over_images(np.bincount(present, right), counts)


def folds_of(images: LaboratoryImages, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows to fit to, and those to score, of folds of different slides.

    The classes are spread over the folds as evenly as the slides allow.
    """
    groups = images.groups()
    count = min(FOLDS, int(groups.max()) + 1)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        return list(splitter.split(images.labels, images.labels, groups))


def answers(
    model: Released, images: LaboratoryImages, fit: np.ndarray, score: np.ndarray, views: int
) -> np.ndarray:
    """The probabilities, (N, classes), of the rows `score` by a layer fitted to the rows `fit`."""
    layer = fit_last_layer(model, images.features[:, fit], images.labels[fit])
    return probabilities(layer, images.features[:views, score])


def held_out(model: Released, images: LaboratoryImages, folds: list, views: int) -> np.ndarray:
    """Each image's probabilities, float32 (N, classes), by a fit to other slides."""
    found = np.zeros((len(images.labels), len(model.classes)), np.float32)
    for fit, score in folds:
        found[score] = answers(model, images, fit, score, views)
    return found


def without_labels(model: Released, images: LaboratoryImages, folds: list) -> np.ndarray:
    """Each image's answer, int64 (N,), by a fit to other slides and to other classes than its own.

    So its class is one that nobody labelled; -1 if the other slides have no other class.
    """
    found = np.full(len(images.labels), -1)
    for fit, score in folds:
        for label in np.unique(images.labels[score]):
            others, own = fit[images.labels[fit] != label], score[images.labels[score] == label]
            if len(others):
                found[own] = answers(model, images, others, own, MOST_VIEWS).argmax(1)
    return found


def by_class(
    images: LaboratoryImages,
    before: np.ndarray,
    after: np.ndarray,
    unlabelled: np.ndarray,
    classes: list[str],
) -> list[dict]:
    """The recalls of each labelled class: as released, fitted, and fitted without its labels."""
    rows = []
    for label in np.unique(images.labels):
        mine = images.labels == label
        asked = mine & (unlabelled >= 0)
        rows.append(
            {
                "class": classes[label],
                "images": int(mine.sum()),
                "slides": None if images.slides is None else len(np.unique(images.slides[mine])),
                "released": float((before[mine] == label).mean()),
                "fine_tuned": float((after[mine] == label).mean()),
                "without_its_labels": float((unlabelled[asked] == label).mean())
                if asked.any()
                else None,
            }
        )
    return rows


def learning_curve(model: Released, images: LaboratoryImages, seed: int) -> list[dict]:
    """Balanced accuracy of fits to at most a few random images of each class of other slides."""
    rng = np.random.default_rng(seed)
    fewest = np.unique(images.labels, return_counts=True)[1].min()
    rows = []
    for shots in tqdm([n for n in SHOTS if 2 * n <= fewest], "fits to fewer images"):
        scores = []
        for draw in range(DRAWS):
            folds = [
                (few(rng.permutation(fit), images.labels, shots), score)
                for fit, score in folds_of(images, (seed + draw) % 2**32)
            ]
            found = held_out(model, images, folds, MOST_VIEWS)
            scores.append(unseen.balanced_accuracy(images.labels, found))
        rows.append({"images_of_each_class": shots, **metrics.mean_and_deviation(scores)})
    return rows


def few(rows: np.ndarray, labels: np.ndarray, shots: int) -> np.ndarray:
    """The first `shots` rows of each class, or as many as there are."""
    return np.concatenate([rows[labels[rows] == c][:shots] for c in np.unique(labels[rows])])
