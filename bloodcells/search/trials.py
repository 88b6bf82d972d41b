"""A trial's results on held-out images: its score, its cells, and whether it can still win.

A cell is one combination of settings. A trial keeps the history of each of its models, one list per
column. The results after fewer epochs can be read from it, so one trial may cover several cells.
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError
from bloodcells.search.space import IDLE, Space, shorter, trained
from bloodcells.search.study import MODELS, failure

COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")  # kept by a trial
DIVERGED = 10.0  # a loss far above log 8, that of a uniform guess
OBJECTIVES = {"accuracy": ("val_accuracy", 1), "loss": ("val_loss", -1)}  # column, sign


@dataclass
class EarlyStopping:
    """Stop after `patience` epochs in a row without a new lowest loss.

    A loss counts as a new lowest only if it is lower by the share `threshold`, as in skorch's
    `EarlyStopping`, which the paper's search used.
    """

    patience: int  # 0: never stop
    threshold: float
    lowest: float = field(default=float("inf"), init=False)
    missed: int = field(default=0, init=False)

    def stops(self, loss: float) -> bool:
        """Record an epoch's loss; returns True if training should stop."""
        if loss < self.lowest * (1 - self.threshold):
            self.lowest, self.missed = loss, 0
        else:
            self.missed += 1
        return 0 < self.patience <= self.missed


@dataclass(frozen=True)
class Search:
    """The settings and the space of a search, and how they score a trial's models."""

    args: argparse.Namespace  # the settings that the space does not vary
    space: Space
    models: int  # in a complete trial

    def settings(self, trial: optuna.Trial | FrozenTrial) -> argparse.Namespace:
        """The trial's settings, with the largest number of epochs that it covers."""
        varied = trained(self.args, self.space)
        values = {name: part.suggest(trial, name) for name, part in varied.items()}
        if lengths := shorter(self.args, self.space):
            values["epochs"] = lengths[-1]
        found = argparse.Namespace(**{**vars(self.args), **values})
        for name in self.idle(found):
            setattr(found, name, getattr(Recipe, name))  # the class holds the defaults
        return found

    def idle(self, settings: argparse.Namespace) -> list[str]:
        """The settings that do nothing beside others, if the space varies one of them."""
        return [
            name
            for name, (others, idle) in IDLE.items()
            if {name, *others} & self.space.keys() and idle(settings)
        ]

    def twin(self, trial: optuna.Trial) -> FrozenTrial | None:
        """A trial that has trained models with the same settings; None if there is none."""
        mine, ended = self.settings(trial), [TrialState.COMPLETE, TrialState.PRUNED]
        others = trial.study.get_trials(deepcopy=False, states=ended)
        return next((other for other in others if self.settings(other) == mine), None)

    def lengths(self) -> list[int | None]:
        """The numbers of epochs that a trial covers; None means all that were trained."""
        return cast(list[int | None], shorter(self.args, self.space)) or [None]

    def score(self, models: list[dict]) -> float:
        """The best score over the numbers of epochs that the trial covers; higher is better.

        -inf if a model had diverged by each of them.
        """
        return max(self.score_at(models, epochs) for epochs in self.lengths())

    def score_at(self, models: list[dict], epochs: int | None) -> float:
        """Mean held-out accuracy after `epochs` epochs, or the negative log loss.

        -inf if a model had diverged by then.
        """
        if any_diverged(models, epochs):
            return -math.inf
        column, sign = OBJECTIVES[self.args.objective]
        return sign * float(np.mean([at(model, column, epochs) for model in models]))

    def hopeless(self, study: optuna.Study, models: list[dict]) -> bool:
        """Whether a model diverged, or pruning ends the trial.

        It does if the best trial leads by more than the margin on the same folds or seeds.
        """
        score = self.score(models)
        if math.isinf(score):
            return True
        finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if not finished or not self.args.prune:
            return False
        values = [-np.inf if trial.value is None else trial.value for trial in finished]
        best = models_of(finished[int(np.argmax(values))])
        return self.score(best[: len(models)]) - score > self.args.prune_margin

    def cells(self, trial: FrozenTrial) -> list[dict]:
        """The trial's cells, one for each number of epochs that it covers. Raises `UserError`."""
        models = models_of(trial)
        if other := trial.params.keys() - self.space.keys():
            names = ", ".join(sorted(map(str, other)))
            raise UserError(f"--storage: trial {trial.number} varies {names}, the search does not")
        return [self.cell(trial, models, epochs) for epochs in self.lengths()]

    def cell(self, trial: FrozenTrial, models: list[dict], epochs: int | None) -> dict:
        """The cell of a trial's models after `epochs` epochs; None means all that were trained."""
        default = trial.params.get("epochs", self.args.epochs)
        settings = {**trial.params, "epochs": epochs or default}
        if trial.params.keys() >= trained(self.args, self.space).keys():  # else it died before
            idle = self.idle(self.settings(trial))
            settings = {name: value for name, value in settings.items() if name not in idle}
        diverged = any_diverged(models, epochs)
        return {
            "trial": trial.number,
            "settings": settings,
            "score": self.score_at(models, epochs) if models and not diverged else None,
            "accuracy": [at(model, "val_accuracy", epochs) for model in models],
            "loss": [at(model, "val_loss", epochs) for model in models],
            "epochs": [len(model["val_loss"][:epochs]) for model in models],
            "complete": trial.state == TrialState.COMPLETE,
            "diverged": diverged,
            "failed": failure(trial),
        }


def models_of(trial: optuna.Trial | FrozenTrial) -> list[dict]:
    """The histories of a trial's models. Raises `UserError` for what no search writes."""
    models = trial.user_attrs.get(MODELS, [])
    if not isinstance(models, list) or not all(map(is_history, models)):
        raise UserError(
            f"--storage: trial {trial.number} has no histories of models: {models!r:.60}"
        )
    return models


def is_history(model: object) -> bool:
    """Whether a value is a model's history: a list of numbers for each column, and its end."""
    if not isinstance(model, dict) or not {*COLUMNS, "diverged", "seconds"} <= model.keys():
        return False
    lists = [model[column] for column in COLUMNS]
    if not all(isinstance(values, list) for values in lists):
        return False
    numbers = (model["seconds"], *itertools.chain(*lists))
    return (
        all(isinstance(value, int | float) for value in numbers)
        and len(set(map(len, lists))) == 1
        and bool(lists[0] or model["diverged"])
    )


def at(model: dict, column: str, epochs: int | None) -> float:
    """A model's value after `epochs` epochs, or its last one if it stopped early.

    A model that had diverged by then is listed with an accuracy of 0 and a loss of `DIVERGED`.
    """
    if any_diverged([model], epochs):
        return 0.0 if column == "val_accuracy" else DIVERGED
    return model[column][:epochs][-1]


def any_diverged(models: list[dict], epochs: int | None) -> bool:
    """Whether a model had diverged by `epochs` epochs; None means all that were trained."""
    return any(
        model["diverged"] and (epochs is None or len(model["val_loss"]) < epochs)
        for model in models
    )


def ranked(cells: list[dict]) -> list[dict]:
    """The complete cells that did not diverge, the highest score first."""
    complete = [cell for cell in cells if cell["complete"] and not cell["diverged"]]
    return sorted(complete, key=lambda cell: -cell["score"])


def seconds(models: list[dict]) -> float:
    """Total seconds of training and scoring the models."""
    return sum(model["seconds"] for model in models)


def plain_seconds(cells: list[dict], folds: dict[int, list[dict]], models: int) -> float:
    """Estimated seconds of the plain search, which trains all models of each cell separately.

    Each model is taken to need its trial's mean seconds per epoch, and a pruned one the mean number
    of epochs of the cell's other models.
    """
    total = 0.0
    for cell in cells:
        trained = folds[cell["trial"]]
        if epochs := sum(len(model["val_loss"]) for model in trained):
            total += seconds(trained) / epochs * float(np.mean(cell["epochs"])) * models
    return total
