"""The second batch of BloodMNIST, and what it costs a model not to have seen it in training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bloodcells.data.bloodmnist import SPLITS, Dataset
from bloodcells.data.photographs import read_table
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import CONFIDENCE, RESAMPLES

USUAL_SIZE = (360, 363)  # in pixels, of the photographs of the first batch
EVERY = 6  # of the generated images, one in so many plays the second batch


def second_batch(dataset: Dataset) -> np.ndarray:
    """Which images are of the second batch: bool (N,), over the three splits one after another.

    Their photographs have other sizes than the usual one. Raises `UserError` if the images are not
    the official ones, whose photographs are known.
    """
    total = sum(len(split) for split in dataset.splits().values())
    if dataset.synthetic:
        return np.arange(total) % EVERY == 0
    table = read_table()
    second = [one.size != USUAL_SIZE for split in SPLITS for one in table[split]]
    if len(second) != total:
        raise UserError(f"{dataset.source}: not the official images, whose photographs are known")
    return np.array(second)


class Arms(NamedTuple):
    """What belongs to models without and with the second batch, such as their training rows."""

    without: np.ndarray
    with_both: np.ndarray


def make_arms(labels: np.ndarray, second: np.ndarray, train: np.ndarray, seed: int) -> Arms:
    """Both arms' training rows, from all images' labels and batch, and the training split's rows.

    Without the second batch, the first is all; with it, as many images of each class as it has are
    taken out of the first, at random, so that the arms do not differ in the number of any class.
    """
    rng = np.random.default_rng(seed)
    first = train[~second[train]]
    added = train[second[train]]
    out = [
        rng.choice(first[labels[first] == label], count, replace=False)
        for label, count in zip(*np.unique(labels[added], return_counts=True), strict=True)
    ]
    kept = np.setdiff1d(first, np.concatenate(out))
    return Arms(first, np.sort(np.concatenate([kept, added])))


def scores(
    labels: np.ndarray,
    answers: Arms,
    second: np.ndarray,
    trained: np.ndarray,
    names: tuple[str, ...],
) -> dict:
    """Both arms' balanced accuracy and recalls over the classes of the second batch.

    `answers` are labels, int64 (runs, N) of each arm, `second` says which images are of the second
    batch, and `trained` on which images the arm with both batches was trained.
    """
    without, with_both = (np.asarray(part) == labels for part in answers)
    classes = np.unique(labels[second])
    home = ~second & np.isin(labels, classes)
    new = second & ~trained

    def recalls(label: int) -> dict:
        first, fresh = home & (labels == label), new & (labels == label)
        return {
            "class": names[label],
            "images": {"first": int(first.sum()), "new": int(fresh.sum())},
            "first_batch": without[:, first].mean(1).tolist(),
            "new_without": without[:, fresh].mean(1).tolist(),
            "new_with": with_both[:, fresh].mean(1).tolist(),
        }

    return {
        "images": {"first": int(home.sum()), "second": int(second.sum()), "new": int(new.sum())},
        "first_batch": class_mean(labels[home], without[:, home]),
        "first_batch_with": class_mean(labels[home], with_both[:, home]),
        "second_batch": class_mean(labels[second], without[:, second]),
        "new_without": class_mean(labels[new], without[:, new]),
        "new_with": class_mean(labels[new], with_both[:, new]),
        "gain": class_mean(labels[new], with_both[:, new].astype(int) - without[:, new]),
        "recalls": [recalls(label) for label in classes],
    }


def class_mean(labels: np.ndarray, values: np.ndarray, seed: int = 0) -> dict:
    """The mean over classes of the images' values, (runs, N): {mean, std, low, high} over runs.

    Of whether an image is classified correctly, that is the balanced accuracy. The interval is the
    percentile bootstrap of the mean over runs; the images are resampled within each class.
    """
    rng = np.random.default_rng(seed)
    parts = [values[:, labels == label] for label in np.unique(labels)]
    runs = np.mean([part.mean(1) for part in parts], axis=0)
    draws = np.zeros(RESAMPLES)
    for part in parts:
        number = part.shape[1]
        weights = rng.multinomial(number, np.full(number, 1 / number), RESAMPLES) / number
        draws += weights @ part.mean(0) / len(parts)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {
        "mean": float(runs.mean()),
        "std": float(runs.std(ddof=1)) if len(runs) > 1 else None,
        "low": float(low),
        "high": float(high),
    }
