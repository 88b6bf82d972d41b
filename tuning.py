"""A hyper-parameter search: what may vary, and what a trial comes to on held-out images.

A trial trains one model a fold (or seed) and keeps every fold's history, so that a shorter training
at a constant rate is read off a longer one. The test split is never read here.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import time
from dataclasses import dataclass, field, fields
from functools import partial

import numpy as np
import optuna
import torch
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

import bloodmnist
import models
import protocols
import training
from bloodmnist import Split
from command_line import Parser, UserError, read_settings
from protocols import Plan
from recipe import Recipe

VERSION = 1  # of what a trial means; a study of another version is not continued
SETTINGS = (
    *(field.name for field in fields(Recipe) if field.name != "precision"),
    "widths",
    "dropout",
)
COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Choice:
    """One of several values, which may be lists."""

    values: tuple

    def suggest(self, trial: optuna.Trial, name: str) -> object:
        by_text = dict(zip(self.grid(), self.values, strict=True))
        return by_text[trial.suggest_categorical(name, list(by_text))]

    def grid(self) -> list:
        """The values as a study stores them: a list as its JSON text."""
        return [json.dumps(v) if isinstance(v, list) else v for v in self.values]


@dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`; whole numbers where both are."""

    low: float
    high: float
    log: bool

    def suggest(self, trial: optuna.Trial, name: str) -> float:
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)


Space = dict[str, Choice | Range]


def read_space(parser: Parser, args: argparse.Namespace) -> Space:
    """The preset's table [space]: a list is a `Choice`; {low, high, log} is a `Range`.

    Each value must be one that the flag of that name takes. Raises `UserError`.
    """
    if not getattr(args, "space", None):
        raise UserError(f"{args.config}: no table [space] of what to vary")
    space = {}
    for key, part in args.space.items():
        where = f"{args.config}: [space] {key}"
        name = key.replace("-", "_")
        if name not in SETTINGS:
            close = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"; did you mean '{close[0].replace('_', '-')}'?" if close else ""
            raise UserError(f"{where}: not a setting that a search can vary{hint}")
        if isinstance(part, list) and part:
            read = [read_settings(parser, {key: value}, where)[name] for value in part]
            space[name] = Choice(tuple(read))
        elif isinstance(part, dict) and {"low", "high"} <= part.keys() <= {"low", "high", "log"}:
            low, high = (
                read_settings(parser, {key: part[end]}, where)[name] for end in ("low", "high")
            )
            log = part.get("log", False)
            if not (isinstance(low, (int, float)) and low < high and (low > 0 or not log)):
                raise UserError(f"{where}: low must be below high, and above zero for log")
            space[name] = Range(low, high, log)
        else:
            raise UserError(f"{where}: neither a list of values nor {{low, high, log}}")
    return space


def sampler(args: argparse.Namespace, space: Space, begun: int) -> tuple[BaseSampler, int]:
    """Optuna's sampler, and how many trials it takes; `begun` are in the study already.

    TPE's draws follow from the seed and `begun`, so that a search which is continued draws anew;
    with a shared storage they are free, lest workers draw alike. Raises `UserError`.
    """
    if args.search == "tpe":
        entropy = None if args.storage else [args.seed, begun]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        tpe = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        return tpe, args.trials
    if ranges := [name for name, part in space.items() if isinstance(part, Range)]:
        raise UserError(f"{args.config}: [space] {ranges[0]}: a grid needs a list of values")
    grid = {name: part.grid() for name, part in trained(args, space).items()}
    return optuna.samplers.GridSampler(grid, seed=args.seed), math.prod(map(len, grid.values()))


def shorter(args: argparse.Namespace, space: Space) -> list[int]:
    """The numbers of epochs that are read off one training of the most, itself included.

    At a constant rate a run of 30 epochs is the beginning of one of 50.
    """
    epochs = space.get("epochs")
    varies = {"schedule", "focus"} & space.keys()
    if not isinstance(epochs, Choice) or varies or args.schedule != "constant" or args.focus:
        return []
    return sorted(epochs.values)


def trained(args: argparse.Namespace, space: Space) -> Space:
    """The part of the space that needs a training of its own."""
    return {k: v for k, v in space.items() if k != "epochs" or not shorter(args, space)}


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
    """The objective: call it with a trial."""

    args: argparse.Namespace  # every setting that the space leaves as it is
    space: Space
    pool: Split
    plans: list[Plan]
    device: torch.device

    def __call__(self, trial: optuna.Trial) -> float:
        """Train the trial's folds; returns its score, higher is better.

        Raises `optuna.TrialPruned` when it can't win, and `UserError` for settings that don't go
        together.
        """
        args = self.settings(trial)
        recipe = Recipe.of(args)
        build = partial(models.build, args.model, args.size, args.widths, args.dropout)
        training.keep_freed_memory()
        images, labels = bloodmnist.to_device(self.pool, self.device)
        folds = list(trial.user_attrs.get("folds", []))  # of a trial that this one replaces
        for plan in self.plans[len(folds) :]:
            train, held_out = (
                (images[rows], labels[rows])
                for rows in map(torch.from_numpy, (plan.train, plan.held_out))
            )
            folds.append(self.fold(build, train, held_out, recipe, plan))
            trial.set_user_attr("folds", folds)
            if self.args.prune and self.hopeless(trial.study, folds):
                raise optuna.TrialPruned
        return self.score(folds)

    def settings(self, trial: optuna.Trial) -> argparse.Namespace:
        """The trial's settings; of the numbers of epochs that share a training, the largest."""
        varied = trained(self.args, self.space)
        values = {name: part.suggest(trial, name) for name, part in varied.items()}
        if lengths := shorter(self.args, self.space):
            values["epochs"] = lengths[-1]
        return argparse.Namespace(**{**vars(self.args), **values})

    def fold(self, build, train, held_out, recipe: Recipe, plan: Plan) -> dict:
        """Train one model, until it stops early; its history, a list a column."""
        started = time.perf_counter()
        generator = protocols.seed_all(plan)
        model = build().to(self.device, memory_format=torch.channels_last)
        early = EarlyStopping(self.args.patience, self.args.threshold)
        history = {name: [] for name in COLUMNS}
        diverged = False
        try:
            for row in training.fit(model, train, held_out, recipe, generator):
                for name in COLUMNS:
                    history[name].append(row[name])
                if early.stops(row["val_loss"]):
                    break
        except training.DivergedError:
            diverged = True
        seconds = time.perf_counter() - started
        return {**history, "diverged": diverged, "seconds": seconds}

    def score(self, folds: list[dict], epochs: int | None = None) -> float:
        """The mean over folds at their last epoch, or at `epochs` if they went on so long.

        Held-out accuracy, or the log loss with its sign turned; a diverged fold has accuracy 0 and
        the loss of not knowing.
        """
        column, lost, sign = OBJECTIVES[self.args.objective]
        values = []
        for fold in folds:
            reached = fold[column][:epochs]
            cut_short = fold["diverged"] and len(reached) == len(fold[column])
            values.append(lost if cut_short or not reached else reached[-1])
        return sign * sum(values) / len(values)

    def cells(self, trial: FrozenTrial) -> list[dict]:
        """What the trial says: an entry for each number of epochs that it stands for."""
        args = self.settings(trial)
        folds = trial.user_attrs.get("folds", [])
        return [
            {
                "trial": trial.number,
                "settings": {**trial.params, "epochs": epochs},
                "score": self.score(folds, epochs) if folds else None,
                "accuracy": [
                    0.0 if f["diverged"] else f["val_accuracy"][:epochs][-1] for f in folds
                ],
                "epochs": [len(f["val_loss"][:epochs]) for f in folds],
                "seconds": sum(f["seconds"] for f in folds),
                "complete": trial.state == TrialState.COMPLETE,
                "failed": trial.user_attrs.get("failed"),
            }
            for epochs in shorter(self.args, self.space) or [args.epochs]
        ]

    def hopeless(self, study: optuna.Study, folds: list[dict]) -> bool:
        """Whether the best finished trial leads by more than the margin in these folds."""
        finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        if not finished:
            return False
        best = max(finished, key=lambda trial: trial.value).user_attrs["folds"]
        return self.score(best[: len(folds)]) - self.score(folds) > self.args.prune_margin


# what a trial is judged by: column of the history, its worth if training diverged, sign
OBJECTIVES = {"accuracy": ("val_accuracy", 0.0, 1), "loss": ("val_loss", 2.08, -1)}  # log 8
