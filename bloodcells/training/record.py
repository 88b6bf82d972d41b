"""The record of a trained model: its history, predictions and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from bloodcells.data.folds import Fold


@dataclass(frozen=True)
class Run:
    """One trained model's record. Probabilities are float32 (images, classes)."""

    name: str  # of its fold
    seed: int
    fold: int | None  # None where the protocol has no folds
    history: list[dict]  # one row per epoch
    val_labels: np.ndarray | None  # of the held-out images, if any
    val_probabilities: np.ndarray | None
    test_probabilities: np.ndarray | None  # None where the protocol does not score this run
    test_one_view: np.ndarray | None  # the same with one view
    train_seconds: float
    weights: dict[str, Tensor]  # the model's state_dict, on the CPU
    # mean speed of float32 matrix products, measured after each epoch: puts the seconds in context
    machine_gflops: float


def record_of(
    fold: Fold, model: nn.Module, history: list[dict], predictions: dict[str, Tensor]
) -> Run:
    """The record of the model trained on a fold; `predictions` are fields of `Run`.

    Raises `ValueError` for predictions of other names, which would be lost.
    """
    names = ("val_labels", "val_probabilities", "test_probabilities", "test_one_view")
    if unknown := predictions.keys() - set(names):
        raise ValueError(f"predictions {', '.join(sorted(unknown))}: a run has {', '.join(names)}")
    arrays = {name: part.cpu().numpy() for name, part in predictions.items()}
    return Run(
        name=fold.name,
        seed=fold.seed,
        fold=fold.fold,
        history=history,
        **{name: arrays.get(name) for name in names},
        train_seconds=sum(row["train_seconds"] for row in history),
        weights={k: w.cpu().contiguous() for k, w in model.state_dict().items()},
        machine_gflops=float(np.mean([row["machine_gflops"] for row in history])),
    )
