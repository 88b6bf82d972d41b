"""The balanced accuracy (mean recall of the classes), with its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.linalg import norm
from scipy import stats

from bloodcells.evaluation.metrics import CONFIDENCE, wilson_interval

RESAMPLES = 5000
AT_ONCE = 100  # of them
FEW = 10  # slides; over fewer, the interval is too narrow
# slides of one class; with two, simulated 95 % intervals held the truth in 82 % of the cases
FEW_OF_A_CLASS = 3


def over_images(right: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """The mean recall of the classes, and its 95 % interval.

    The classes' Wilson limits are combined by the square-and-add method (Zou and Donner, 2008), so
    that the interval has a width even where every image is right. `right` may be means over models.
    """
    shares = right / counts
    limits = [wilson_interval(k, n) for k, n in zip(right, counts, strict=True)]
    below, above = abs(np.array(limits).T - shares)
    mean, classes = float(shares.mean()), len(counts)
    low, high = mean - norm(below) / classes, mean + norm(above) / classes
    return {"mean": mean, "low": max(0.0, float(low)), "high": min(1.0, float(high))}


def over_slides(labels: np.ndarray, right: np.ndarray, slides: np.ndarray) -> dict[str, float]:
    """The mean recall of the classes, and its 95 % interval over slides or persons.

    `right` (N,): whether each answer is right, or the share of the models whose answer is. Images
    of one slide are alike, so whole slides are resampled. The interval is never narrower than that
    over images, which has a width even where every image is right.
    """
    _, present, counts = np.unique(labels, return_inverse=True, return_counts=True)
    found = over_images(np.bincount(present, right), counts)
    low, high = resampled(labels, right, slides)
    return {**found, "low": min(low, found["low"]), "high": max(high, found["high"])}


def gain_over_slides(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, slides: np.ndarray
) -> dict[str, float]:
    """What `after` gains over `before`, resampled together.

    The interval is never narrower than that over images, by the normal approximation. It has no
    width where no answer changes, unlike that of `over_slides`.
    """
    change = after.astype(float) - before
    low, high = resampled(labels, change, slides)
    of_classes = [change[labels == label] for label in np.unique(labels)]
    mean = float(np.mean([part.mean() for part in of_classes]))
    errors = [part.std(ddof=int(len(part) > 1)) / np.sqrt(len(part)) for part in of_classes]
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2) * norm(errors)) / len(of_classes)
    return {"mean": mean, "low": min(low, mean - reach), "high": max(high, mean + reach)}


def recall_over_slides(right: np.ndarray, slides: np.ndarray) -> dict[str, float]:
    """The recall of one class with its 95 % interval; over images where all are of one slide."""
    places, numbers = np.unique(slides, return_inverse=True)
    if len(places) == 1:
        return over_images(right.sum(keepdims=True), np.array([len(right)]))
    return over_slides(np.zeros(len(right)), right, numbers)


def over(slides: int, by_class: Sequence[int]) -> str:
    """What an interval over so many slides is worth, in words."""
    words, least = f"over {slides} slides", min(by_class)
    if least < min(FEW_OF_A_CLASS, slides):
        return f"{words}; too narrow: a class is on {'one' if least == 1 else least} of them only"
    return words + ("; too narrow for so few" if slides < FEW else "")


def resampled(labels: np.ndarray, values: np.ndarray, slides: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval, over slides, of the mean over classes of the classes' means.

    Whole slides are resampled (cluster bootstrap: Field and Welsh, 2007). The percentiles lie
    farther out for fewer slides, by Student's t (Hesterberg, "What Teachers Should Know About the
    Bootstrap", 2015); it remains too narrow for fewer than `FEW`, and for classes on fewer than
    `FEW_OF_A_CLASS`. A class that a resample lacks has its mean over all slides there.
    """
    _, present = np.unique(labels, return_inverse=True)
    images, sums = np.zeros((2, slides.max() + 1, present.max() + 1))
    np.add.at(images, (slides, present), 1)
    np.add.at(sums, (slides, present), values)
    count, rng = len(images), np.random.default_rng(0)
    overall = sums.sum(0) / images.sum(0)
    means: list[float] = []
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = rng.multinomial(count, np.full(count, 1 / count), AT_ONCE).astype(float)
        seen = drawn @ images
        of_classes = np.where(seen > 0, drawn @ sums / np.maximum(seen, 1), overall)
        means.extend(of_classes.mean(1))
    farther = np.sqrt(count / (count - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    tail = stats.norm.cdf(-farther)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
