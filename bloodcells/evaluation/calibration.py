"""How far probabilities can be trusted: calibration, abstention, prediction sets.

Labels are int (N,), probabilities float (N, classes). All fits are on validation. A prediction set
holds the classes that should include the true one.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

BINS = 15
MOST = 1 - 1e-6  # that a prediction set asks of a class: images without a mistake ask for more
TINY = np.finfo(np.float32).tiny


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities sharpened (below 1) or flattened (above 1): softmax(log p / temperature)."""
    return softmax(np.log(np.maximum(probabilities, TINY)) / temperature, axis=-1)


def fit_temperature(
    labels: np.ndarray, probabilities: np.ndarray, *, if_all_right: float = 1.0
) -> float:
    """The temperature that minimises log loss (Guo et al., "On Calibration", 2017).

    `if_all_right` is returned where every answer is right: ever sharper probabilities would lower
    the loss without end.
    """
    if (probabilities.argmax(1) == labels).all():
        return if_all_right

    def loss(log_temperature: float) -> float:
        return log_loss(labels, apply_temperature(probabilities, np.exp(log_temperature)))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def true_class(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The probability of the true class, (N,)."""
    return probabilities[np.arange(len(labels)), labels]


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-likelihood, in nats."""
    return float(-np.log(np.maximum(true_class(labels, probabilities), TINY)).mean())


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Brier score: mean squared distance to the one-hot label, 0 (best) to 2."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[dict]:
    """Image count, mean confidence and accuracy of each bin of confidence.

    Confidence is the top class's probability. The `BINS` bins have equal width; empty ones are left
    out.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "images": int((place == b).sum()),
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
        }
        for b in np.unique(place)
    ]


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean absolute gap between confidence and accuracy over bins, weighted by image count."""
    bins = reliability(labels, probabilities)
    gaps = sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in bins)
    return gaps / len(labels)


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage, most confident images first, and the error rate among those covered; (N,) each.

    Images of equal confidence count with their mean error: they have no order.
    """
    _, place, images = np.unique(-probabilities.max(1), return_inverse=True, return_counts=True)
    errors = np.bincount(place, probabilities.argmax(1) != labels) / images
    answered = np.arange(1, len(labels) + 1)
    return answered / len(labels), np.cumsum(np.repeat(errors, images)) / answered


def aurc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the risk-coverage curve (Geifman, Uziel and El-Yaniv, 2019)."""
    return float(risk_coverage(labels, probabilities)[1].mean())


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Every metric of this module that needs no fit."""
    return {
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "ece": expected_calibration_error(labels, probabilities),
        "nll": log_loss(labels, probabilities),
        "brier": brier(labels, probabilities),
        "aurc": aurc(labels, probabilities),
    }


def set_threshold(labels: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """The least probability with which a class enters a prediction set of coverage `level`.

    Split conformal prediction with the score 1 - p(true) (Sadinle et al., "Least Ambiguous
    Set-Valued Classifiers", 2019). The coverage is guaranteed on images like these if nothing was
    fitted on these, and nearly guaranteed if only a temperature was. With too few images for the
    guarantee, the threshold is zero, and every set holds all classes.
    """
    probability = np.sort(true_class(labels, probabilities))[::-1]
    rank = int(np.ceil((len(labels) + 1) * level))
    return min(float(probability[rank - 1]), MOST) if rank <= len(labels) else 0.0


def without_guarantee(sets: dict[str, float]) -> str | None:
    """A note on the levels whose `set_threshold` is zero for want of images, or None."""
    if not (levels := [level for level, threshold in sets.items() if not threshold]):
        return None
    return f"too few images for sets at {' and '.join(levels)}: these hold every class"


def set_scores(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict:
    """Coverage and size of the prediction sets, overall and by class."""
    sets = probabilities >= threshold
    covered, size = true_class(labels, sets), sets.sum(1)
    classes = range(probabilities.shape[1])
    return {
        "coverage": float(covered.mean()),
        "size": float(size.mean()),
        "empty": float((size == 0).mean()),
        "coverage_by_class": [float(covered[labels == c].mean()) for c in classes],
        "size_by_class": [float(size[labels == c].mean()) for c in classes],
    }
