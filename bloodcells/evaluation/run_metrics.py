"""The metrics of an experiment's runs, as `metrics.json` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from bloodcells.cli.recipe import SEEDED
from bloodcells.data.bloodmnist import Dataset
from bloodcells.evaluation import metrics
from bloodcells.training.record import Run


def gather_predictions(runs: Sequence[Run], protocol: str) -> dict[str, np.ndarray]:
    """Arrays of `predictions.npz`: test probabilities, (runs, N, classes), of the scored runs.

    With several views also those of one view; under "official" also the validation probabilities
    and labels. (`results.of_folds` adds those of cross-validation.)
    """
    scored = [run for run in runs if run.test_probabilities is not None]
    arrays = {
        "probabilities": np.stack(
            cast(list[np.ndarray], [run.test_probabilities for run in scored])
        )
    }
    if scored[0].test_one_view is not None:
        arrays["probabilities_one_view"] = np.stack(
            cast(list[np.ndarray], [run.test_one_view for run in scored])
        )
    if protocol == "official":  # the same held-out images in every run
        arrays["val_labels"] = cast(np.ndarray, runs[0].val_labels)
        arrays["val_probabilities"] = np.stack(
            cast(list[np.ndarray], [run.val_probabilities for run in runs])
        )
    return arrays


def score_runs(
    runs: Sequence[Run], arrays: dict[str, np.ndarray], dataset: Dataset, protocol: str
) -> dict:
    """The entries of `metrics.json` that hold metrics; `arrays` are those of `predictions.npz`."""
    labels, tested = dataset.test.labels, arrays["probabilities"]
    content = {
        "leaks_test_images": protocol == "as-published",
        "runs": [score_run(run, labels) for run in runs],
        "test": metrics.summarise(labels, tested),
        "test_per_class": metrics.per_class(labels, tested, dataset.classes),
        "test_confusion_matrix": metrics.confusion_matrix(labels, tested).tolist(),
        "test_majority_class_accuracy": metrics.majority_floor(dataset.train.labels, labels),
    }
    if "probabilities_one_view" in arrays:
        content["test_one_view"] = metrics.summarise(labels, arrays["probabilities_one_view"])
    if protocol in SEEDED and len(tested) > 1:
        content["test_ensemble"] = metrics.summarise(labels, tested.mean(0, keepdims=True))
    return content


def score_run(run: Run, test_labels: np.ndarray) -> dict:
    """One run's row in the `runs` of `metrics.json`."""
    val, test = run.val_probabilities, run.test_probabilities
    return {
        "seed": run.seed,
        "fold": run.fold,
        "train_seconds": run.train_seconds,
        "machine_gflops": run.machine_gflops,
        "val": None if val is None else metrics.scores(cast(np.ndarray, run.val_labels), val),
        "test": None if test is None else metrics.scores(test_labels, test),
    }
