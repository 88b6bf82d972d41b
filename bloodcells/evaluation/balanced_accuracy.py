"""The balanced accuracy (mean recall of the classes), with its 95 % interval."""

from __future__ import annotations

import numpy as np
from numpy.linalg import norm

from bloodcells.evaluation.metrics import CONFIDENCE, wilson_interval

RESAMPLES = 5000


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
    return {"mean": mean, "low": float(low), "high": float(high)}


def over_slides(labels: np.ndarray, right: np.ndarray, slides: np.ndarray) -> dict[str, float]:
    """The mean recall of the classes, and its 95 % interval over slides or persons.

    Images of one slide are alike, so whole slides are resampled (the cluster bootstrap of Field and
    Welsh, 2007; percentiles). A class that a resample lacks is left out of its mean. The interval
    is too narrow where slides are few. `right` (N,): whether each answer is right, or the share of
    the models whose answer is, or the difference of two such arrays.
    """
    _, present = np.unique(labels, return_inverse=True)
    images, sums = np.zeros((2, slides.max() + 1, present.max() + 1))
    np.add.at(images, (slides, present), 1)
    np.add.at(sums, (slides, present), right)
    count = len(images)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.vstack([np.ones(count), draws])
    drawn = weights @ images
    recalls = np.divide(weights @ sums, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
    mean, *resampled = np.nanmean(recalls, axis=1)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"mean": float(mean), "low": float(low), "high": float(high)}
