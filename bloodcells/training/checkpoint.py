"""Checkpoints: unfinished work in the run folder, from which a stopped command can be resumed.

`checkpoint/` holds a file for each finished model, one for each model in training, the identity of
the experiment, and a lock for each model that a process is training. Every file is written under
another name, flushed to disk and renamed, so that it is complete at any moment. Reading a file
executes no code from it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloodcells.cli.endings import is_of_the_device, out_of_memory
from bloodcells.errors import UserError
from bloodcells.tracking.atomic import EARLIER, SCRATCH, discard, write_whole
from bloodcells.tracking.code_hash import different
from bloodcells.tracking.files import CHECKPOINTS, IDENTITY, version_of
from bloodcells.tracking.run_folder import named, writing_to
from bloodcells.training import distributed
from bloodcells.training.identity import compare, finished_identity, kept_identity
from bloodcells.training.locks import ModelLocks, refuse_without_locks
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
        self.locks = ModelLocks(run_folder, self.path, names, shared)
        text = json.dumps(identity, sort_keys=True)
        self.mark = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def begin(self, resume: bool, overwrite: bool) -> None:
        """Take the folder, and set `finished`, which says whether nothing is left to resume.

        Raises `UserError` if the folder is in use, if it holds an experiment that is to be neither
        resumed nor overwritten, or if the experiment to be resumed is a different one.
        """
        with writing_to(self.run_folder):  # a disk that is full, or has no locks
            self.finished = distributed.from_first(lambda: self.take(resume, overwrite))

    def take(self, resume: bool, overwrite: bool) -> bool:
        """`begin`, in the process that writes; returns whether the experiment is finished."""
        refuse_without_locks(self.run_folder)
        with self.locks.turn():
            self.refuse_others()
            # an --overwrite that was stopped before its first checkpoint is gone on with
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
            self.sweep(f"{SCRATCH}*")
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
        """Take an unfinished experiment."""
        if not resume:
            self.locks.take()  # raises if another process is at work
            self.locks.release()
            raise UserError(
                f"--output {self.run_folder}: it holds an unfinished experiment; pass --resume to "
                "continue it, or --overwrite to start again"
            )
        compare(kept_identity(self.identity_file), self.identity, self.run_folder)
        self.locks.take()
        self.resumed = True

    def leave_finished(self, resume: bool) -> None:
        """Leave a finished experiment as it is."""
        kept = finished_identity(self.result)
        if not resume:
            others = different(kept["code"], self.identity["code"])
            of_others = f" of other code ({named(others)})" if others else ""
            both = " to keep both, for report.py --compare" if others else ""
            raise UserError(
                f"--output {self.run_folder}: it holds a finished experiment{of_others}; pass "
                f"--overwrite to replace it, or another --output{both}"
            )
        compare(kept, self.identity, self.run_folder)
        shutil.rmtree(self.path, ignore_errors=True)  # left if killed at the very end
        self.sweep(f"{SCRATCH}*", f"{EARLIER}*")

    def start_anew(self) -> None:
        """Begin this experiment; an earlier one's results stay until this one has its own."""
        self.path.mkdir(exist_ok=True)
        self.locks.take()
        self.clear()
        write_whole(self.identity_file, json.dumps(self.identity).encode())

    def sweep(self, *patterns: str) -> None:
        """Delete what a killed process left, unless another may be writing it."""
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
        """Whether a model is finished. Raises `UserError` for a damaged record."""
        return self.record(name) is not None

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
            self.sweep(f"{EARLIER}*")
            self.clear()
            self.locks.release()
            shutil.rmtree(self.path)
        except OSError as error:  # the results are there
            print(f"{self.path} could not be removed: {error.strerror}; it can be deleted")


class Checkpoint:
    """The state of one model in training, written to disk every `every` epochs.

    `parts` are the objects to save and restore, by `state_dict` and `load_state_dict`: the network,
    the batches, and lists of optimizers and schedulers.
    """

    def __init__(self, path: Path, mark: str, every: int, parts: dict, device: torch.device):
        self.path, self.mark, self.every = path, mark, every
        self.parts, self.device = parts, device
        self.latest: bytes | None = None  # serialised, not yet on disk

    def restore(self) -> list[dict]:
        """Restore the parts; returns the history, one row per epoch. Raises `UserError`."""
        kept = distributed.from_first(lambda: read(self.path, self.mark))
        if kept is None:
            return []
        try:
            for name, part in self.parts.items():
                pairs = zip(part, kept[name], strict=True) if isinstance(part, list) else None
                for one, state in pairs or [(part, kept[name])]:
                    one.load_state_dict(state)
            torch.set_rng_state(kept["random"])
            if self.device.type != "cpu":
                torch.get_device_module(self.device).set_rng_state(kept["random_device"])
            return kept["history"]
        except Exception as error:  # a state of another shape raises one of many kinds
            if out_of_memory(error) or is_of_the_device(error):
                raise
            raise damaged(self.path, error) from error

    def save(self, history: list[dict]) -> None:
        """Save the state of the parts after the epochs of `history`."""
        if distributed.rank():
            return
        state = {
            name: [p.state_dict() for p in part] if isinstance(part, list) else part.state_dict()
            for name, part in self.parts.items()
        }
        state |= {"random": torch.get_rng_state(), "history": history}
        if self.device.type != "cpu":
            state["random_device"] = torch.get_device_module(self.device).get_rng_state()
        self.latest = packed(state, self.mark)
        if len(history) % self.every == 0:
            self.flush()

    def flush(self) -> None:
        """Write the latest state, if it is not yet on disk."""
        if self.latest is not None:
            write_whole(self.path, self.latest)
            self.latest = None


def is_ours(path: Path) -> bool:
    """Whether something in a folder `checkpoint/` is a file that a training may have left there."""
    return path.is_file() and re.fullmatch(OURS, path.name) is not None


def packed(content: dict, mark: str) -> bytes:
    """The bytes of a checkpoint file; `mark` is the digest of its experiment's identity."""
    buffer = io.BytesIO()
    torch.save({**content, "mark": mark}, buffer)
    return buffer.getvalue()


def read(path: Path, mark: str) -> dict | None:
    """A file's content; None if there is no file. Executes no code. Raises `UserError`."""
    try:
        file = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if content.pop("mark") != mark:
            raise ValueError("it is of another run")
        return content
    except Exception as error:  # a damaged file raises one of many kinds
        if out_of_memory(error):
            raise
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """The error for a file that is not a checkpoint of this experiment."""
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(
        f"{path}: damaged, or of another experiment: {reason}; delete it to retrain that model"
    )
