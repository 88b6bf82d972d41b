"""Two experiments on the same images: what one gains over the other, in numbers and words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import mcnemar
from bloodcells.reporting.tables.cells import interval
from bloodcells.tracking.run_folder import SavedRun


class Gain(NamedTuple):
    """What one experiment gains over another on the same images, in points of accuracy.

    The 95 % interval is over the images, the standard deviation over pairs of models: how much
    another training changes it. None of a single pair.
    """

    mean: float
    low: float
    high: float
    std: float | None


def gain(labels: np.ndarray, *, before: np.ndarray, after: np.ndarray) -> Gain:
    """What `after` gains over `before`: the labels that paired models predict, (models, N)."""
    changes = 100 * ((after == labels).astype(float) - (before == labels))
    by_image, by_pair = changes.mean(0), changes.mean(1)
    mean, half = by_image.mean(), 1.96 * by_image.std(ddof=1) / np.sqrt(len(by_image))
    std = float(by_pair.std(ddof=1)) if len(by_pair) > 1 else None
    return Gain(float(mean), float(mean - half), float(mean + half), std)


def in_words(gained: Gain) -> str:
    """A gain with its interval over images, and its spread over the pairs of models."""
    spread = "" if gained.std is None else f", ± {gained.std:.2f} over pairs of models"
    ends = interval(gained.low, gained.high, "+.2f")
    return f"{gained.mean:+.2f} points {ends} over images{spread}"


def comparison(first: SavedRun, second: SavedRun, names: tuple[str, str]) -> str:
    """A sentence that compares two experiments on the same test images, run by run."""
    same_runs = first.probabilities.shape == second.probabilities.shape
    if not same_runs or not np.array_equal(first.labels, second.labels):
        raise UserError(f"{first.folder} and {second.folder} differ in their runs or test images")
    ours, theirs = (run.probabilities.argmax(2) for run in (first, second))
    tests = [mcnemar(first.labels, *pair) for pair in zip(ours, theirs, strict=True)]
    gained = gain(first.labels, before=theirs, after=ours)
    pairs = ", ".join(f"{test['only_first']}:{test['only_second']}" for test in tests)
    least, most = (pick(test["p"] for test in tests) for pick in (min, max))
    # rounded up, or "below" could be wrong
    bound = 10.0 ** np.ceil(np.log10(max(most, 1e-300)))
    p = f"below {bound:.0e}" if most < 0.001 else f"from {least:.2g} to {most:.2g}"
    return (
        f"{names[0]} against {names[1]} on the same test images: {gained.mean:+.2f} points "
        f"{interval(gained.low, gained.high, '+.2f')} (mean over {len(tests)} pairs of models, "
        "95 % interval over test images). Images that only one of them has right (first : second), "
        f"by pair: {pairs} (McNemar's exact test: p {p})."
    )
