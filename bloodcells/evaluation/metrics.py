"""Metrics, intervals and paired tests, from saved arrays of probabilities and labels.

A run is one trained model of an experiment. Averages over classes are macro averages, so
`balanced_accuracy` equals `recall_macro`. `std`, which tables print after ±, is the standard
deviation over runs (n - 1): the effect of other seeds or folds. `low` and `high`, in brackets in
tables, are the ends of a 95 % interval: the effect of other test images. `mcc` is Matthews'
correlation coefficient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from sklearn import metrics

METRICS = (
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "auc_macro",
    "balanced_accuracy",
    "mcc",
)
RESAMPLES = 1000
CONFIDENCE = 0.95


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Every metric of `METRICS` for one model: labels (N,), probabilities (N, classes)."""
    once = np.ones((1, len(labels)))
    return {name: float(v[0]) for name, v in weighted_scores(labels, probabilities, once).items()}


def weighted_scores(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric, (B,), under B weightings of the images, `weights` (B, N).

    A bootstrap resample weights each image by how often it was drawn, so that a few matrix products
    score all resamples. A class without images is left out of the averages.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    cells = np.eye(classes**2)[labels * classes + predicted]
    confusion = (weights @ cells).reshape(-1, classes, classes)  # (B, truth, prediction)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    truths, predictions, total = confusion.sum(2), confusion.sum(1), weights.sum(1)

    seen = truths > 0
    precision = np.divide(hits, predictions, out=np.zeros_like(hits), where=predictions > 0)
    recall = np.divide(hits, truths, out=np.full_like(hits, np.nan), where=seen)
    f1 = 2 * hits / np.where(seen, truths + predictions, np.nan)
    agreement = hits.sum(1) * total - (truths * predictions).sum(1)
    spread = (total**2 - (truths**2).sum(1)) * (total**2 - (predictions**2).sum(1))
    aucs = [weighted_auc(labels == c, probabilities[:, c], weights) for c in range(classes)]
    return {
        "accuracy": hits.sum(1) / total,
        "precision_macro": np.nanmean(np.where(seen, precision, np.nan), axis=1),
        "recall_macro": np.nanmean(recall, axis=1),
        "f1_macro": np.nanmean(f1, axis=1),
        "auc_macro": np.nanmean(aucs, axis=0),
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "mcc": np.divide(
            agreement, np.sqrt(spread), out=np.zeros_like(agreement), where=spread > 0
        ),
    }


def weighted_auc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, (B,), of a score (N,) under weightings (B, N); NaN if undefined.

    It is the probability that a positive outranks a negative; a tie counts one half.
    """
    above = np.subtract.outer(score[positive], score[~positive])
    wins = (np.sign(above) + 1) / 2  # (positives, negatives): 1, a tie 1/2, or 0
    up, down = weights[:, positive], weights[:, ~positive]
    # float32 is fast and exact here: the sums are multiples of 1/2 below the number of draws
    won = (up * (down.astype(np.float32) @ wins.T.astype(np.float32))).sum(1)
    pairs = up.sum(1) * down.sum(1)
    return np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)


def summarise(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> dict[str, dict]:
    """{metric: {mean, std, low, high}} over runs: labels (N,), probabilities (runs, N, classes).

    The interval is the percentile bootstrap (Efron 1979) of the mean over runs: the test images are
    resampled, and all runs share each resample. `std` is None for a single run.
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), RESAMPLES)
    weights = np.vstack([np.ones(len(labels)), draws])
    runs = [weighted_scores(labels, p, weights) for p in probabilities]
    tail = (1 - CONFIDENCE) / 2
    summary = {}
    for name in METRICS:
        values = np.array([run[name] for run in runs])  # (runs, 1 + resamples)
        low, high = np.quantile(values[:, 1:].mean(0), [tail, 1 - tail])
        summary[name] = {
            "mean": float(values[:, 0].mean()),
            "std": float(values[:, 0].std(ddof=1)) if len(values) > 1 else None,
            "low": float(low),
            "high": float(high),
        }
    return summary


def per_class(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> list[dict]:
    """One row per class: precision, recall and F1 as means over runs, and the recall's interval.

    As in the macro averages, a class that a run never predicts has precision 0 in that run.
    """
    predicted = probabilities.argmax(2)
    precision, recall, f1, _ = np.mean(
        [class_scores(labels, run, len(names)) for run in predicted], axis=0
    )
    support = np.bincount(labels, minlength=len(names))
    rows = []
    for c, name in enumerate(names):
        low, high = wilson_interval(recall[c] * support[c], support[c])
        rows.append(
            {
                "class": name,
                "support": int(support[c]),
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
                "recall_low": low,
                "recall_high": high,
            }
        )
    return rows


def class_scores(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Precision, recall, F1 and support of each class, (4, classes), of one run's predictions."""
    scores = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=0
    )
    return np.array(scores)


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Images by true (row) and predicted (column) class, run means: float (classes, classes)."""
    classes = probabilities.shape[2]
    cells = labels * classes + probabilities.argmax(2)  # (runs, N)
    counts = np.bincount(cells.ravel(), minlength=classes**2).reshape(classes, classes)
    return counts / len(probabilities)


def wilson_interval(hits: float, count: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), valid for small counts and shares near one.

    `hits` may be a mean over runs; each run sees the same `count` images.
    """
    if count == 0:
        return 0.0, 1.0
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    share = hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def majority_floor(train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    """Test accuracy of always predicting the most frequent training class."""
    return float((test_labels == np.bincount(train_labels).argmax()).mean())


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict:
    """McNemar's exact test of two models' predictions (N,) on the same images.

    Returns how many images only the first and only the second model got right, and the two-sided
    p-value of that split, under the hypothesis that both are equally good.
    """
    only_first = int(((first == labels) & (second != labels)).sum())
    only_second = int(((first != labels) & (second == labels)).sum())
    changed = only_first + only_second
    p = stats.binomtest(only_first, changed).pvalue if changed else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": float(p)}


def mean_and_deviation(values: list) -> dict:
    """Mean and standard deviation of several models' values: numbers, or equally long lists."""
    numbers = np.array(values, dtype=float)
    std = numbers.std(0, ddof=1).tolist() if len(numbers) > 1 else None
    return {"mean": numbers.mean(0).tolist(), "std": std}
