"""The checkpoint of a model in training, and how checkpoint files are written and read."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from bloodcells.cli.endings import is_of_the_device, out_of_memory
from bloodcells.errors import UserError
from bloodcells.tracking.atomic import write_whole
from bloodcells.training import distributed
from bloodcells.training.process_group import told_once


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
        kept = told_once(lambda: read(self.path, self.mark))
        if kept is None:
            return []
        try:
            for name, part in self.parts.items():
                if isinstance(part, list):
                    for one, state in zip(part, kept[name], strict=True):
                        one.load_state_dict(state)
                else:
                    part.load_state_dict(kept[name])
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
