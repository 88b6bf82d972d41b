"""Checkpoints: unfinished work in the run folder, from which a stopped command can be resumed.

`checkpoint/` holds a file for each finished model, one for each model in training, the identity of
the experiment, and for each model a lock and who took it last. Every file is written under
another name, flushed to disk and renamed, so that it is complete at any moment. Reading a file
executes no code from it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloodcells.errors import UserError
from bloodcells.tracking.atomic import EARLIER, SCRATCH, discard, write_whole
from bloodcells.tracking.code_hash import different
from bloodcells.tracking.files import CHECKPOINTS, IDENTITY, version_of
from bloodcells.tracking.run_folder import named, writing_to
from bloodcells.training import distributed
from bloodcells.training.checkpoint import damaged, packed, read
from bloodcells.training.identity import (
    finished_identity,
    kept_identity,
    mark_of,
    refuse_another_experiment,
)
from bloodcells.training.locks import ModelLocks, refuse_without_locks
from bloodcells.training.process_group import told_once
from bloodcells.training.record import Run

LOCK_FILES = (".lock", ".owner")
MODEL = r"(.+-)?seed-\d+(-fold-\d+)?"  # a model's name, by `Fold.name`
LITTER = r"\.DS_Store|\._.+|\.nfs[0-9a-f]+|Thumbs\.db|desktop\.ini"  # of the operating system
OURS = rf"identity\.json|(finished-)?{MODEL}\.(pt|lock|owner)|.+\.part|{LITTER}"


class CheckpointFolder:
    """The models of one command, in `checkpoint/` of its run folder.

    `names` are the models that this process trains; if `shared`, other processes may train the
    others. `result` is the file that marks a finished experiment. As a context manager, it releases
    the models at the end.
    """

    def __init__(
        self,
        run_folder: Path,
        names: list[str],
        identity: dict,
        shared: bool = False,
        result: str = "metrics.json",
    ):
        self.run_folder, self.result = run_folder, run_folder / result
        self.path = run_folder / CHECKPOINTS
        self.result_before = version_of(self.result)  # when this command began
        self.finished = False  # whether an earlier command finished
        self.resumed = False  # set only in the process that writes
        self.names, self.identity, self.shared = names, identity, shared
        self.identity_file = run_folder / IDENTITY
        self.locks = ModelLocks(run_folder, names, shared)
        # how to start again: --overwrite would take the other processes' models, too
        self.again = "once none is at work, delete the folder" if shared else "pass --overwrite"
        self.mark = mark_of(identity)  # in every file, so that no other experiment's is read

    def begin(self, resume: bool, overwrite: bool) -> None:
        """Take the folder, and set `finished`, which says whether nothing is left to resume.

        Raises `UserError` if the folder is in use, if it holds an experiment that is to be neither
        resumed nor overwritten, or if the experiment to be resumed is a different one.
        """

        def taken() -> bool:
            with writing_to(self.run_folder):  # a disk that is full, or has no locks
                return self.take(resume, overwrite)

        self.finished = told_once(taken)

    def take(self, resume: bool, overwrite: bool) -> bool:
        """`begin`, in the process that writes; returns whether the experiment is finished."""
        refuse_without_locks(self.run_folder)
        with self.locks.turn():
            self.refuse_others()
            # with --resume beside earlier results, an --overwrite that was stopped before its first
            # checkpoint goes on
            abandoned = self.is_abandoned() and not (resume and self.result.exists())
            if self.identity_file.exists() and not (overwrite or abandoned):
                self.go_on(resume)
            elif self.result.exists() and not overwrite:
                self.leave_finished(resume)
                return True
            else:
                if resume and not self.shared:
                    print(f"{self.run_folder}: nothing to resume, so it begins anew")
                self.start_anew()
            self.remove_leftovers(f"{SCRATCH}*")
            return False

    def refuse_others(self) -> None:
        """Raise `UserError` if `checkpoint/` is a link, or holds what is not of a training."""
        if self.path.is_symlink():  # what it leads to is not ours to clear
            raise UserError(
                f"--output {self.run_folder}: its folder {self.path.name}/ is a link; remove it, "
                "or pass another --output"
            )
        theirs = [path.name for path in self.path.glob("*") if not is_ours(path)]
        if theirs:
            raise UserError(
                f"--output {self.run_folder}: its folder {self.path.name}/ holds {theirs[0]}, "
                "which is not of this project; pass another folder"
            )

    def is_abandoned(self) -> bool:
        """Whether the experiment ended before its first checkpoint: there is nothing to resume."""
        return not any(self.path.glob("*.pt")) and not self.locks.busy()

    def go_on(self, resume: bool) -> None:
        """Take an unfinished experiment, to resume it. Raises `UserError` without `resume`."""
        if not resume:
            self.locks.take()  # raises if another process is at work
            self.locks.release()
            raise UserError(
                f"--output {self.run_folder}: it holds an unfinished experiment; pass --resume to "
                "continue it, or --overwrite to start again"
            )
        kept = kept_identity(self.identity_file, self.again)
        refuse_another_experiment(kept, self.identity, self.run_folder, self.again)
        self.locks.take()
        self.resumed = True

    def leave_finished(self, resume: bool) -> None:
        """Clear up after a finished experiment. Raises `UserError` without `resume`."""
        kept = finished_identity(self.result)
        if not resume:
            others = different(kept["code"], self.identity["code"])
            of_others = f" of other code ({named(others)})" if others else ""
            both = " to keep both, for report.py --compare" if others else ""
            raise UserError(
                f"--output {self.run_folder}: it holds a finished experiment{of_others}; pass "
                f"--overwrite to replace it, or another --output{both}"
            )
        refuse_another_experiment(kept, self.identity, self.run_folder, self.again)
        shutil.rmtree(self.path, ignore_errors=True)  # left if killed at the very end
        self.remove_leftovers(f"{SCRATCH}*", f"{EARLIER}*")

    def start_anew(self) -> None:
        """Begin this experiment; an earlier one's results stay until this one has its own."""
        self.path.mkdir(exist_ok=True)
        self.locks.take()
        self.clear()
        write_whole(self.identity_file, json.dumps(self.identity).encode())

    def remove_leftovers(self, *patterns: str) -> None:
        """Delete what a killed process left: files of these patterns, and unfinished checkpoints.

        Not if another process may be writing them.
        """
        if not self.shared:
            folders = (path for pattern in patterns for path in self.run_folder.glob(pattern))
            for left in (*folders, *self.path.glob("*.part")):
                discard(left)

    def __enter__(self) -> CheckpointFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.locks.release()

    def clear(self) -> None:
        """Delete the checkpoints, the identity first: without it, the other files are ignored."""
        self.identity_file.unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.suffix not in LOCK_FILES:
                path.unlink()

    def record(self, name: str) -> Run | None:
        """The record of a model; None if it is not finished. Raises `UserError`."""
        path = self.path / f"finished-{name}.pt"
        kept = read(path, self.mark)
        if kept is None:
            return None
        fields: dict[str, Any] = {
            k: v.numpy() if isinstance(v, Tensor) else v for k, v in kept.items()
        }
        try:
            return Run(**fields)
        except TypeError as error:  # keys that are not fields of `Run`
            raise damaged(path, error) from error

    def has_record(self, name: str) -> bool:
        """Whether a model is finished, by the first process. Raises `UserError` if damaged."""
        return told_once(lambda: self.record(name) is not None)

    def finish(self, name: str, run: Run) -> None:
        """Replace the checkpoint of a finished model with its record."""
        if distributed.rank():
            return
        kept = vars(run).items()  # arrays as tensors, which load without executing code
        content = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in kept}
        write_whole(self.path / f"finished-{name}.pt", packed(content, self.mark))
        with suppress(OSError):  # the record counts, and it goes with the folder
            (self.path / f"{name}.pt").unlink(missing_ok=True)

    def end(self) -> None:
        """Delete the checkpoints once the results are written; call it within a `turn`."""
        if version_of(self.result) in (None, self.result_before):  # by an edited script
            print(f"{self.result} was not written, so the trained models stay in {self.path}")
            return
        try:
            self.remove_leftovers(f"{EARLIER}*")
            self.clear()
            self.locks.release()
            shutil.rmtree(self.path)
        except OSError as error:  # the results are there
            print(f"{self.path} could not be removed: {error.strerror}; it can be deleted")


def is_ours(path: Path) -> bool:
    """Whether something in a folder `checkpoint/` is a file that a training may have left there."""
    named_so = re.fullmatch(OURS, path.name) is not None
    return named_so and (path.is_file() or not os.path.lexists(path))  # just renamed by another
