"""A hyper-parameter search: what may vary, and what a trial comes to on held-out images.

A trial trains one model a fold (or seed) and keeps every fold's history, so that a shorter training
at a constant rate is read off a longer one. The test split is never read here.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import math
import time
from dataclasses import dataclass, field, fields
from functools import partial

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

import models
from bloodcells.cli.arguments import Parser, UserError, read_settings
from bloodcells.cli.recipe import Recipe
from bloodcells.data import folds as protocols
from bloodcells.data.bloodmnist import Pool
from bloodcells.data.folds import Plan
from bloodcells.training import loop

VERSION = 1  # of what a trial means; a study of another version is not continued
SETTINGS = (
    *(field.name for field in fields(Recipe) if field.name not in ("precision", "views")),
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
        if name in SETTINGS and getattr(args, name) != parser.get_default(name):
            raise UserError(
                f"--{name.replace('_', '-')}: does nothing, the search varies it: {where}"
            )
        if name not in SETTINGS:
            close = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"; did you mean '{close[0].replace('_', '-')}'?" if close else ""
            raise UserError(f"{where}: not a setting that a search can vary{hint}")
        if isinstance(part, list) and part:
            read = [read_settings(parser, {key: value}, where)[name] for value in part]
            if any(value in read[:place] for place, value in enumerate(read)):
                raise UserError(f"{where}: a value stands there twice")
            space[name] = Choice(tuple(read))
        elif isinstance(part, dict) and {"low", "high"} <= part.keys() <= {"low", "high", "log"}:
            low, high = (
                read_settings(parser, {key: part[end]}, where)[name] for end in ("low", "high")
            )
            log = part.get("log", False)
            numbers = type(low) in (int, float) and type(high) in (int, float)
            if not (numbers and low < high and isinstance(log, bool) and (low > 0 or not log)):
                raise UserError(f"{where}: low must be below high, and above zero where log = true")
            space[name] = Range(low, high, log)
        else:
            raise UserError(f"{where}: neither a list of values nor {{low, high, log}}")
    return space


def slots(args: argparse.Namespace, space: Space) -> int:
    """How many trials the search takes: the grid's cells, or `--trials`. Raises `UserError`."""
    varied = trained(args, space)
    if not varied:
        raise UserError(f"{args.config}: [space] has nothing but epochs, which one training tells")
    if args.search == "tpe":
        return args.trials
    if ranges := [name for name, part in space.items() if isinstance(part, Range)]:
        raise UserError(f"{args.config}: [space] {ranges[0]}: a grid needs a list of values")
    return math.prod(len(part.values) for part in varied.values())


def prepare(args: argparse.Namespace, space: Space, study: optuna.Study, slot: int) -> dict:
    """Make the study ready for a new trial of `slot`; returns its parameters as far as given.

    Those of a grid are all given. TPE's draws follow from seed, slot, and the trials before.
    """
    if args.search == "grid":
        varied = trained(args, space)
        cells = itertools.product(*(part.grid() for part in varied.values()))
        return dict(zip(varied, next(itertools.islice(cells, slot, None)), strict=True))
    seed = int(np.random.SeedSequence([args.seed, slot]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return {}


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
    pool: Pool
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
        loop.keep_freed_memory()
        images, labels = self.pool.to(self.device)
        folds = list(trial.user_attrs.get("folds", []))  # of a trial that this one goes on with
        for plan in self.plans[len(folds) :]:
            if folds and self.args.prune and self.hopeless(trial.study, folds):
                raise optuna.TrialPruned
            train, held_out = (
                protocols.labelled(images, labels, rows) for rows in (plan.train, plan.held_out)
            )
            folds.append(self.fold(build, train, held_out, recipe, plan))
            trial.set_user_attr("folds", folds)
            trial.report(self.score(folds), step=len(folds))
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
            tools = loop.begin(model, train, recipe, generator)
            for row in loop.fit(model, *tools, held_out, recipe):
                for name in COLUMNS:
                    history[name].append(row[name])
                if early.stops(row["val_loss"]):
                    break
        except loop.DivergedError:
            diverged = True
        except torch.OutOfMemoryError as error:
            raise UserError(f"{self.device} is out of memory") from error
        seconds = time.perf_counter() - started
        return {**history, "diverged": diverged, "seconds": seconds}

    def lengths(self) -> list[int | None]:
        """The numbers of epochs that a trial stands for; None is all of them."""
        return shorter(self.args, self.space) or [None]

    def score(self, folds: list[dict]) -> float:
        """The best over the numbers of epochs that the trial stands for; higher is better."""
        return max(self.score_at(folds, epochs) for epochs in self.lengths())

    def score_at(self, folds: list[dict], epochs: int | None) -> float:
        """Mean held-out accuracy after so many epochs, or the log loss with its sign turned."""
        column, sign = OBJECTIVES[self.args.objective]
        return sign * float(np.mean([at(fold, column, epochs) for fold in folds]))

    def cells(self, trial: FrozenTrial) -> list[dict]:
        """What the trial says: an entry for each number of epochs that it stands for."""
        folds = trial.user_attrs.get("folds", [])
        default = trial.params.get("epochs", self.args.epochs)
        return [
            {
                "trial": trial.number,
                "settings": {**trial.params, "epochs": epochs or default},
                "score": self.score_at(folds, epochs) if folds else None,
                "accuracy": [at(fold, "val_accuracy", epochs) for fold in folds],
                "loss": [at(fold, "val_loss", epochs) for fold in folds],
                "epochs": [len(fold["val_loss"][:epochs]) for fold in folds],
                "complete": trial.state == TrialState.COMPLETE,
                "failed": trial.user_attrs.get("failed"),
            }
            for epochs in self.lengths()
        ]

    def hopeless(self, study: optuna.Study, folds: list[dict]) -> bool:
        """Whether a finished trial leads by more than the margin in these folds, at its best."""
        finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if not finished:
            return False
        best = max(finished, key=lambda trial: trial.value).user_attrs["folds"]
        return self.score(best[: len(folds)]) - self.score(folds) > self.args.prune_margin


def at(fold: dict, column: str, epochs: int | None) -> float:
    """A fold's value after so many epochs, or the last before it stopped early.

    Training that had diverged by then counts as an accuracy of 0 and a loss of `DIVERGED`.
    """
    values = fold[column][:epochs]
    if fold["diverged"] and (epochs is None or len(fold[column]) < epochs):
        return 0.0 if column == "val_accuracy" else DIVERGED
    return values[-1]


DIVERGED = 10.0  # far above log 8, the loss of not knowing
OBJECTIVES = {"accuracy": ("val_accuracy", 1), "loss": ("val_loss", -1)}  # column, sign
