"""What a trial comes to on held-out images: its score, its cells, and whether it can still win.

A trial keeps the history of each of its models, a list a column, so that a shorter training is
read off a longer one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from bloodcells.search.space import Space, shorter, trained

COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")  # that a trial keeps
DIVERGED = 10.0  # far above log 8, the loss of not knowing
OBJECTIVES = {"accuracy": ("val_accuracy", 1), "loss": ("val_loss", -1)}  # column, sign


@dataclass
class EarlyStopping:
    """Stop after `patience` epochs in which the loss did not fall by `threshold` of its lowest.

    As skorch's `EarlyStopping`, which the paper's search used: the lowest counts only when reached
    by such a fall.
    """

    patience: int  # 0: never stop
    threshold: float
    lowest: float = field(default=float("inf"), init=False)
    missed: int = field(default=0, init=False)

    def stops(self, loss: float) -> bool:
        """Take an epoch's loss; True if training should end."""
        if loss < self.lowest * (1 - self.threshold):
            self.lowest, self.missed = loss, 0
        else:
            self.missed += 1
        return 0 < self.patience <= self.missed


@dataclass(frozen=True)
class Search:
    """The settings and the space of a search, and what they make of a trial's models."""

    args: argparse.Namespace  # every setting that the space leaves as it is
    space: Space
    models: int  # of a complete trial

    def settings(self, trial: optuna.Trial | FrozenTrial) -> argparse.Namespace:
        """The trial's settings; of the numbers of epochs that share a training, the largest."""
        varied = trained(self.args, self.space)
        values = {name: part.suggest(trial, name) for name, part in varied.items()}
        if lengths := shorter(self.args, self.space):
            values["epochs"] = lengths[-1]
        return argparse.Namespace(**{**vars(self.args), **values})

    def lengths(self) -> list[int | None]:
        """The numbers of epochs that a trial stands for; None is all of them."""
        return cast(list[int | None], shorter(self.args, self.space)) or [None]

    def score(self, models: list[dict]) -> float:
        """The best over the numbers of epochs that the trial stands for; higher is better."""
        return max(self.score_at(models, epochs) for epochs in self.lengths())

    def score_at(self, models: list[dict], epochs: int | None) -> float:
        """Mean held-out accuracy after so many epochs, or the log loss with its sign turned."""
        column, sign = OBJECTIVES[self.args.objective]
        return sign * float(np.mean([at(model, column, epochs) for model in models]))

    def hopeless(self, study: optuna.Study, models: list[dict]) -> bool:
        """Whether a finished trial leads by more than the margin in these models, at its best."""
        finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if not finished:
            return False
        best = max(finished, key=lambda trial: cast(float, trial.value)).user_attrs["folds"]
        return self.score(best[: len(models)]) - self.score(models) > self.args.prune_margin

    def cells(self, trial: FrozenTrial) -> list[dict]:
        """What the trial says: an entry for each number of epochs that it stands for."""
        models = trial.user_attrs.get("folds", [])
        default = trial.params.get("epochs", self.args.epochs)
        return [
            {
                "trial": trial.number,
                "settings": {**trial.params, "epochs": epochs or default},
                "score": self.score_at(models, epochs) if models else None,
                "accuracy": [at(model, "val_accuracy", epochs) for model in models],
                "loss": [at(model, "val_loss", epochs) for model in models],
                "epochs": [len(model["val_loss"][:epochs]) for model in models],
                "complete": trial.state == TrialState.COMPLETE,
                "failed": trial.user_attrs.get("failed"),
            }
            for epochs in self.lengths()
        ]


def at(model: dict, column: str, epochs: int | None) -> float:
    """A model's value after so many epochs, or the last before it stopped early.

    Training that had diverged by then counts as an accuracy of 0 and a loss of `DIVERGED`.
    """
    values = model[column][:epochs]
    if model["diverged"] and (epochs is None or len(model[column]) < epochs):
        return 0.0 if column == "val_accuracy" else DIVERGED
    return values[-1]


def best_cell(cells: list[dict]) -> dict:
    """The complete cell of the highest score."""
    return max((cell for cell in cells if cell["complete"]), key=lambda cell: cell["score"])


def seconds(models: list[dict]) -> float:
    """Seconds that training and scoring of models took, in all."""
    return sum(model["seconds"] for model in models)


def plain_seconds(cells: list[dict], folds: dict[int, list[dict]], models: int) -> float:
    """Estimated seconds of the plain search: each cell by itself, and all of its models.

    A cell's models take their trial's seconds an epoch; those that were pruned away are taken to
    be like its others.
    """
    total = 0.0
    for cell in cells:
        trained = folds[cell["trial"]]
        if epochs := sum(len(model["val_loss"]) for model in trained):
            total += seconds(trained) / epochs * float(np.mean(cell["epochs"])) * models
    return total
