"""The training session of one experiment: its run folder, its unfinished models, resuming.

A training script opens a session, trains each model that the session lists as unfinished, and
reports every epoch and the final predictions to it. The session takes care of locks, checkpoints,
signals, torchrun's processes and the progress bar.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from bloodcells.cli.arguments import STARTED, trains_a_part
from bloodcells.data.bloodmnist import Dataset
from bloodcells.data.folds import Fold
from bloodcells.errors import UserError
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment
from bloodcells.training import distributed, identity, tensorboard, threads
from bloodcells.training.augmentation import Batches
from bloodcells.training.checkpoint import Checkpoint
from bloodcells.training.checkpoint_folder import CheckpointFolder
from bloodcells.training.device import keep_freed_memory, matrix_product_gflops
from bloodcells.training.interruption import (
    ending_after_the_batch,
    interruptions_explained,
    resuming_command,
)
from bloodcells.training.meter import DivergedError, refuse_divergence
from bloodcells.training.process_group import process_group, told_once
from bloodcells.training.progress import Progress
from bloodcells.training.record import Run, record_of
from bloodcells.training.refusals import (
    refuse_few_test_images,
    refuse_idle_randomisation,
    refuse_misfit,
)
from bloodcells.training.tensorboard import Curves

SPEED_SECONDS = 5.0  # for which a measurement of the machine's speed holds
TIMES = ("train_seconds", "machine_gflops")  # the last columns of a history


@contextmanager
def open_session(
    args: argparse.Namespace,
    dataset: Dataset,
    folds: Sequence[Fold],
    network: nn.Module,
    device: torch.device,
    result: str = "metrics.json",
    epochs: Sequence[int] | None = None,
) -> Iterator[Session]:
    """A session for the duration of the block, with the locks of the models that it trains.

    `network` has the architecture to be trained; `result` is the file that marks a finished
    experiment, to be written within the block: else the trained models are kept. `epochs` are those
    of each model, if they are not those of `args`. The first Ctrl-C or SIGTERM stops training after
    the batch. Raises `UserError` if the run folder holds another experiment, is in use, or is
    finished and not to be overwritten.
    """
    with process_group(device), interruptions_explained(args):
        record = environment(device.type, args.code) | {"processes": distributed.size()}
        told_once(lambda: run_folder.prepare(args.output, args.code, script=args.code.script))
        keep_freed_memory()
        if args.tensorboard:
            tensorboard.writer_class()  # raises without the package, before anything is begun
        checkpoints = open_folder(args, dataset, folds, network, device, result)
        views = getattr(args, "views", 1)  # model_baseline.py has no such flag
        progress = Progress(epochs or [args.epochs] * len(folds), args.quiet, views)
        with checkpoints, progress, ExitStack() as stack:
            session = Session(args, folds, device, checkpoints, progress, record, stack)
            if not checkpoints.finished:
                many = f", {distributed.size()} processes" if distributed.size() > 1 else ""
                name = type(network).__name__
                print(f"{name} on {device}{many}; data: {dataset.source}")
                notice = stack.enter_context(threads.trainings()).notice()
                if notice and device.type == "cpu" and distributed.size() == 1:
                    print(notice)
                session.while_training.enter_context(ending_after_the_batch())
            try:
                yield session
            except BaseException:  # such as Ctrl-C, a full disk, or a GPU without memory
                if session.current:
                    session.current.checkpoint.flush()
                raise
            if session.runs:
                checkpoints.end()


def open_folder(
    args: argparse.Namespace,
    dataset: Dataset,
    folds: Sequence[Fold],
    network: nn.Module,
    device: torch.device,
    result: str,
) -> CheckpointFolder:
    """Take the run folder, to resume its experiment or begin a new one. Raises `UserError`."""
    refuse_misfit(network, dataset)
    if any(fold.scored for fold in folds):
        refuse_few_test_images(dataset)
    if getattr(args, "domain_randomisation", 0):
        refuse_idle_randomisation(args.domain_randomisation, args.focus, args.batch_size)
    names, shared = names_to_train(args, folds), trains_a_part(args)
    mine = identity.identity_of(args, dataset, network, device)
    identity.refuse_other_processes(mine | {"models": names})
    tensorboard.refuse_others(args.output)
    folder = CheckpointFolder(args.output, names, mine, shared, result)
    folder.begin(args.resume or shared, args.overwrite)
    if folder.finished:
        identity.refuse_what_needs_the_models(args, folder.result, folder.again)
        print(f"{args.output}: finished already")
    elif not (folder.resumed or distributed.rank()):
        tensorboard.clear(args.output)
    return folder


@dataclass
class ModelInTraining:
    """The model that a session trains at present."""

    place: dict  # its seed and fold, for the rows of its history
    network: nn.Module
    steps: int  # of an epoch
    checkpoint: Checkpoint
    history: list[dict]  # a row for each epoch done
    curves: Curves | None  # for TensorBoard


class Session:
    """The training of one experiment's models; `open_session` creates it."""

    def __init__(
        self,
        args: argparse.Namespace,
        folds: Sequence[Fold],
        device: torch.device,
        checkpoints: CheckpointFolder,
        progress: Progress,
        environment: dict,
        stack: ExitStack,
    ):
        """`stack` closes with the session's block; `environment` is the entry of `metrics.json`."""
        self.args, self.folds, self.device, self.environment = args, folds, device, environment
        self.checkpoints, self.progress, self.stack = checkpoints, progress, stack
        # until it closes, Ctrl-C ends a batch
        self.while_training = stack.enter_context(ExitStack())
        self.current: ModelInTraining | None = None
        self.measured = 0.0, -SPEED_SECONDS  # the machine's GFLOP/s, and when
        self.columns: list[str] = []  # of every epoch's row, once there is one
        self.runs: list[Run] = []  # of all models, once they are complete

    def unfinished(self) -> Iterator[Fold]:
        """The folds, or seeds, whose models this process has to train, in order."""
        if self.checkpoints.finished:
            return
        waiting = [
            number
            for number, fold in enumerate(self.folds)
            if fold.name in self.checkpoints.names and not self.checkpoints.has_record(fold.name)
        ]
        self.progress.leave_out({*range(len(self.folds))}.difference(waiting))
        for number in waiting:
            self.progress.run = number
            yield self.folds[number]

    def restore(
        self,
        fold: Fold,
        model: nn.Module,
        batches: Batches,
        optimizers: Sequence,
        schedulers: Sequence = (),
    ) -> int:
        """Begin with a model: restore its checkpoint, if it has one; returns the epochs done.

        The objects passed here are also those that its next checkpoints save.
        """
        parts = {"network": model, "batches": batches}
        parts |= {"optimizers": list(optimizers), "schedulers": list(schedulers)}
        path = self.checkpoints.path / f"{fold.name}.pt"
        every = self.args.checkpoint_every
        checkpoint = Checkpoint(path, self.checkpoints.mark, every, parts, self.device)
        history = checkpoint.restore()
        place = {"seed": fold.seed, "fold": fold.fold}
        if history:
            known = {*place, "epoch", *TIMES}
            self.columns = [name for name in history[-1] if name not in known]
        self.progress.resume(len(history))
        curves = None
        if self.args.tensorboard and not distributed.rank():
            curves = Curves(self.args.output, fold.name, len(history))
            self.stack.callback(curves.close)
            curves.show_examples(batches)
        self.current = ModelInTraining(place, model, len(batches), checkpoint, history, curves)
        return len(history)

    def save(self, epoch: int, row: dict) -> None:
        """Add an epoch's row to the history, show it, and save the model's state.

        The previous state is kept if it raises: `DivergedError` if the held-out loss is NaN or
        infinite, `UserError` if the row's columns are not those of every row, or hold no numbers.
        """
        refuse_divergence(epoch, row)
        if time.monotonic() - self.measured[1] > SPEED_SECONDS:  # it takes 0.1 s or more
            gflops = matrix_product_gflops("float32", self.device, repeats=1)
            self.measured = gflops, time.monotonic()
        numbers = {name: plain(value) for name, value in row.items()}
        self.check_columns(epoch, numbers)
        times = {"train_seconds": numbers.pop("train_seconds"), "machine_gflops": self.measured[0]}
        model = cast(ModelInTraining, self.current)
        row = {**model.place, "epoch": epoch, **numbers, **times}
        model.history.append(row)
        model.checkpoint.save(model.history)
        self.progress.show(row, model.steps)
        if model.curves:
            model.curves.add(row, model.network)

    def check_columns(self, epoch: int, numbers: dict) -> None:
        """Raise `UserError` unless a row has the first one's columns, and a number in each."""
        columns = [name for name in numbers if name not in TIMES]
        self.columns = self.columns or columns
        needed = list(dict.fromkeys(["train_seconds", "train_loss", *self.columns]))
        complete = all(isinstance(numbers.get(name), int | float) for name in needed)
        if columns != self.columns or not complete:
            raise UserError(
                f"epoch {epoch}: the row of history.csv has {numbers}; every epoch's needs a "
                f"number for each of {', '.join(needed)}, in the first epoch's order"
            )

    def finish(self, fold: Fold, model: nn.Module, predictions: dict[str, Tensor]) -> None:
        """Keep the record of a trained model; `predictions` are fields of `Run`.

        Raises `DivergedError` if they are NaN or infinite.
        """
        if not all(torch.isfinite(values).all() for values in predictions.values()):
            raise DivergedError("training diverged: its predictions are not finite; lower --lr")
        current = cast(ModelInTraining, self.current)
        self.checkpoints.finish(fold.name, record_of(fold, model, current.history, predictions))
        self.current = None
        if current.curves:
            current.curves.close()

    def complete(self) -> bool:
        """Whether all models are trained and this process has to write the results.

        If so, `runs` holds all of them, and no other process writes until the session ends.
        """
        self.while_training.close()  # from here on, Ctrl-C stops at once
        if self.checkpoints.finished or distributed.rank():
            return False
        checkpoints = self.checkpoints
        self.stack.enter_context(checkpoints.locks.turn())  # if several end at once, one writes
        runs = [checkpoints.record(fold.name) for fold in self.folds]
        if not checkpoints.identity_file.exists() and checkpoints.result.exists():
            print(f"done; another process wrote the results into {self.args.output}")
            return False
        if None in runs:
            print(
                f"done; once all models are trained, run: {resuming_command(self.args, alone=True)}"
            )
            return False
        self.runs = cast(list[Run], runs)
        return True

    def seconds(self) -> float | None:
        """Seconds since the command began; None if other commands trained some of the models."""
        if self.checkpoints.resumed or self.checkpoints.shared:
            return None
        return time.perf_counter() - STARTED


def plain(value: object) -> object:
    """A NumPy or torch scalar as a Python number, which a checkpoint can hold."""
    single = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1)
    return cast(Tensor, value).item() if single else value


def names_to_train(args: argparse.Namespace, folds: Sequence[Fold]) -> list[str]:
    """The names of the models that this process trains. Raises `UserError` if there are none."""
    number, seed = getattr(args, "only_fold", None), getattr(args, "only_seed", None)
    there = ", ".join(fold.name for fold in folds)
    if number is not None and number not in {fold.fold for fold in folds}:
        raise UserError(f"--only-fold {number}: no such fold among {there}")
    if seed is not None and seed not in {fold.seed for fold in folds}:
        raise UserError(f"--only-seed {seed}: no such seed among {there}")
    return [
        fold.name for fold in folds if number in (None, fold.fold) and seed in (None, fold.seed)
    ]
