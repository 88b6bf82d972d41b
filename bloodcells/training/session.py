"""A training script from its settings to its run folder: stopped at any moment, it can go on."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bloodcells.cli.arguments import UserError
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist, folds
from bloodcells.data.bloodmnist import Dataset
from bloodcells.data.folds import Plan
from bloodcells.reporting import results
from bloodcells.tracking import run_folder
from bloodcells.training import checkpoint, distributed, interruption, loop
from bloodcells.training.checkpoint import Work

NOT_TRAINING = ("device", "save_weights", "figure_format", "released")  # models stay the same
KEPT = ("save_weights", "released")  # of these, what a finished run cannot make up for


def run(args: argparse.Namespace, build: Callable[[], nn.Module]) -> None:
    """Train the models that `args` describe, score them, and write the folder `args.output`."""
    device = loop.choose_device(args.device)
    args.precision = loop.choose_precision(args.precision, device)
    with distributed.group(device), stoppable(device):
        train_and_score(args, build, device)


def train_and_score(
    args: argparse.Namespace, build: Callable[[], nn.Module], device: torch.device
) -> None:
    """`run` on a device, in each of the processes that share the work."""
    recipe = Recipe.of(args)
    model = build()
    environment = run_folder.environment(device.type)  # of the code as it is now
    environment["processes"] = distributed.size()
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    plans = folds.plan(args.protocol, dataset, args.folds, args.runs, args.seed)
    work = open_work(args, chosen(args, plans[1]), dataset, model, device)
    if work is None:
        return
    processes = f", {distributed.size()} processes" if distributed.size() > 1 else ""
    print(f"{type(model).__name__} on {device}{processes}; data: {dataset.source}")
    with work:
        with interruption.ending_after_the_batch():
            folds.train_all(build, dataset, plans, recipe, device, work)
        if distributed.rank() == 0:
            finish(args, plans[1], dataset, model, work, environment)


def finish(
    args: argparse.Namespace,
    plans: list[Plan],
    dataset: Dataset,
    model: nn.Module,
    work: Work,
    environment: dict,
) -> None:
    """Write the results if no model is missing, else say how to write them when none is."""
    with work.turn:  # of processes that end at once, one finds all models
        runs = [work.record(plan.name) for plan in plans]
        if None in runs:
            print(f"done here; when all models are: {resuming_command(alone=True)}")
            return
        args.started = None if work.resumed or work.shared else args.started
        results.score_and_save(args, dataset, model, runs, environment)
        work.end()


def open_work(
    args: argparse.Namespace,
    names: list[str],
    dataset: Dataset,
    model: nn.Module,
    device: torch.device,
    result: str = "metrics.json",
) -> Work | None:
    """The run folder's unfinished work, or new work; None, and says so, if the run is finished.

    `names` are the models that this process trains. Raises `UserError`.
    """
    shared = any(getattr(args, name, None) is not None for name in ("only_fold", "only_seed"))
    if args.overwrite and (args.resume or shared):
        raise UserError("--overwrite: not with --resume, --only-fold or --only-seed")
    config = {k: v for k, v in results.config(args).items() if k not in NOT_TRAINING}
    identity = checkpoint.identity(config, dataset.describe(), model, device)
    work = checkpoint.Work(args.output, names, identity, args.checkpoint_every, shared, result)
    if not work.begin(args.resume or shared, args.overwrite):
        kept = checkpoint.finished_identity(work.result)
        asked = {  # of a file, its name is known
            key: getattr(value, "name", value)
            for key, value in results.config(args).items()
            if key in KEPT and value
        }
        checkpoint.compare(kept, asked, args.output)
        print(f"{args.output}: finished already")
        return None
    return work


@contextmanager
def stoppable(device: torch.device) -> Iterator[None]:
    """Within the block, a stop says how to go on, and a lack of memory what to lower."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"stopped; to go on: {resuming_command()}") from error
    except torch.OutOfMemoryError as error:
        raise UserError(f"{device} is out of memory; lower --batch-size") from error


def chosen(args: argparse.Namespace, plans: list[Plan]) -> list[str]:
    """The names of the models that this process trains. Raises `UserError` for none."""
    wanted = {"fold": args.only_fold, "seed": args.only_seed}
    for attribute, value in wanted.items():
        if value is not None and value not in {getattr(plan, attribute) for plan in plans}:
            raise UserError(f"--only-{attribute} {value}: this run has no such {attribute}")
    return [
        plan.name
        for plan in plans
        if all(value in (None, getattr(plan, attribute)) for attribute, value in wanted.items())
    ]


def resuming_command(alone: bool = False) -> str:
    """The command that goes on with this one; `alone` leaves the choice of models out."""
    if distributed.size() > 1:
        return "the same torchrun command with --resume"
    given, kept = iter(sys.argv[1:]), []
    for flag in given:
        if alone and flag in ("--only-fold", "--only-seed"):
            next(given, None)
        elif not (alone and flag.startswith(("--only-fold=", "--only-seed="))):
            kept += [flag] * (flag not in ("--resume", "--overwrite"))
    return shlex.join(["python", sys.argv[0], *kept, "--resume"])
