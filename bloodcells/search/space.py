"""What a hyper-parameter search varies: the [space] table of its preset, and its trials.

At a constant learning rate, training for fewer epochs is the beginning of training for more, so one
trial covers all values of `epochs`.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import cast

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from bloodcells.cli.arguments import Parser
from bloodcells.cli.presets import read_settings
from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError

SETTINGS = (
    *(field.name for field in fields(Recipe) if field.name not in ("precision", "views")),
    "widths",
    "dropout",
)


@dataclass(frozen=True)
class Choice:
    """One of several values, which may be lists."""

    values: tuple

    def suggest(self, trial: optuna.Trial | FrozenTrial, name: str) -> object:
        """Draw a value for a trial."""
        by_text = dict(zip(self.grid(), self.values, strict=True))
        return by_text[trial.suggest_categorical(name, list(by_text))]

    def grid(self) -> list:
        """The values as a study stores them: lists as JSON text."""
        return [json.dumps(v) if isinstance(v, list) else v for v in self.values]


@dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`; an integer if both are."""

    low: float
    high: float
    log: bool

    def suggest(self, trial: optuna.Trial | FrozenTrial, name: str) -> float:
        """Draw a value for a trial."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        suggest: Callable[..., float] = trial.suggest_int if whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)


Space = dict[str, Choice | Range]
# by setting, others beside some values of which it does nothing: `Recipe` then refuses all but its
# default
IDLE: dict[str, tuple[tuple[str, ...], Callable[[argparse.Namespace], bool]]] = {
    "filter_lr": (("optimizer",), lambda args: args.optimizer != "muon"),
    "weight_decay": (("optimizer",), lambda args: args.optimizer != "muon"),
    "warmup": (("schedule", "focus"), lambda a: a.schedule != "triangle" and not a.focus),
    "unchanged": (("domain_randomisation",), lambda args: not args.domain_randomisation),
}


def read_space(parser: Parser, args: argparse.Namespace) -> Space:
    """Read the preset's [space] table: a list is a `Choice`; {low, high, log} is a `Range`.

    Raises `UserError` for a value that the flag of the same name does not take, and for early
    stopping where it would decide by chance.
    """
    if not getattr(args, "space", None):
        raise UserError(f"{args.config}: the [space] table, which says what to vary, is missing")
    space: Space = {}
    for key, part in args.space.items():
        where = f"{args.config}: [space] {key}"
        name = key.replace("-", "_")
        if name in space:
            raise UserError(f"{where}: listed twice, with - and with _")
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
                raise UserError(f"{where}: a value is listed twice")
            space[name] = Choice(tuple(read))
        elif isinstance(part, dict) and {"low", "high"} <= part.keys() <= {"low", "high", "log"}:
            low, high = (
                read_settings(parser, {key: part[end]}, where)[name] for end in ("low", "high")
            )
            log = part.get("log", False)
            numbers = type(low) in (int, float) and type(high) in (int, float)
            if not (numbers and low < high and isinstance(log, bool) and (low > 0 or not log)):
                raise UserError(f"{where}: low must be below high, and above zero if log = true")
            space[name] = Range(low, high, log)
        else:
            raise UserError(f"{where}: neither a list of values nor {{low, high, log}}")
    if args.patience and not begins_alike(args, space):
        raise UserError(
            f"--patience {args.patience}: pass 0, as the learning rate or the focus changes during "
            "training: a model that stops early was never trained as its settings say"
        )
    return space


def number_of_trials(args: argparse.Namespace, space: Space) -> int:
    """The search's number of trials: the grid's size, or `--trials`. Raises `UserError`."""
    varied = trained(args, space)
    if not varied:
        raise UserError(f"{args.config}: [space] varies nothing but epochs, which one trial covers")
    if args.search == "tpe":
        return args.trials
    if ranges := [name for name, part in space.items() if isinstance(part, Range)]:
        raise UserError(f"{args.config}: [space] {ranges[0]}: a grid needs a list of values")
    return math.prod(len(cast(Choice, part).values) for part in varied.values())


def prepare_trial(args: argparse.Namespace, space: Space, study: optuna.Study, slot: int) -> dict:
    """Prepare the study for a new trial of `slot`; returns the parameters that are fixed.

    A grid fixes all of them. TPE's draws depend on the seed, the slot and the earlier trials.
    """
    if args.search == "grid":
        varied = trained(args, space)
        cells = itertools.product(*(cast(Choice, part).grid() for part in varied.values()))
        return dict(zip(varied, next(itertools.islice(cells, slot, None)), strict=True))
    seed = int(np.random.SeedSequence([args.seed, slot]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return {}


def shorter(args: argparse.Namespace, space: Space) -> list[int]:
    """The values of `epochs` that one trial covers, in ascending order; empty if there are none.

    At a constant learning rate, a run of 30 epochs is the beginning of one of 50.
    """
    epochs = space.get("epochs")
    if not isinstance(epochs, Choice) or not begins_alike(args, space):
        return []
    return sorted(epochs.values)


def begins_alike(args: argparse.Namespace, space: Space) -> bool:
    """Whether a training of few epochs is always the beginning of one of more."""
    return args.schedule == "constant" and not args.focus and not {"schedule", "focus"} & set(space)


def trained(args: argparse.Namespace, space: Space) -> Space:
    """The part of the space in which each value needs its own trial, in alphabetical order.

    The order of a preset's lines says nothing: a search goes on with the same trials in any.
    """
    parts = sorted(space.items())
    return {k: v for k, v in parts if k != "epochs" or not shorter(args, space)}
