"""Curves and example images for TensorBoard, an optional package."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bloodcells.errors import UserError
from bloodcells.tracking.run_folder import writing_to
from bloodcells.training.augmentation import Batches
from bloodcells.training.checkpoint_folder import LITTER, MODEL

FOLDER = "tensorboard"  # in a run folder
EXAMPLES = 32  # images of the first batch


class Curves:
    """What TensorBoard shows of one model's training."""

    def __init__(self, run: Path, name: str, epochs_done: int):
        """Write into the run folder `run`; a new model replaces an earlier one of that name.

        Raises `UserError` if it cannot be written.
        """
        self.run, folder = run, run / FOLDER / name
        with writing_to(self.run):
            if not epochs_done and folder.exists():
                shutil.rmtree(folder)
            self.writer = writer_class()(str(folder), purge_step=epochs_done + 1)

    def show_examples(self, batches: Batches) -> None:
        """Write the images with which an epoch would begin now, augmented. Raises `UserError`."""
        with writing_to(self.run):
            self.writer.add_images("training images", (examples(batches) + 1) / 2, 0)

    def add(self, row: Mapping[str, float], network: nn.Module) -> None:
        """Write an epoch's row of the history, and the norm of its last batch's gradients.

        Raises `UserError` if it cannot be written.
        """
        epoch = int(row["epoch"])
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        values = {k: v for k, v in row.items() if k not in ("seed", "fold", "epoch")}
        values["gradient_norm_of_last_batch"] = float(nn.utils.get_total_norm(gradients))
        with writing_to(self.run):
            for name, value in values.items():
                self.writer.add_scalar(name, value, epoch)
            self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


def refuse_others(run: Path) -> None:
    """Raise `UserError` if the folder of curves is a link, or holds what is not of a training."""
    folder = run / FOLDER
    ours = (re.fullmatch(f"{MODEL}|{LITTER}", path.name) for path in folder.glob("*"))
    if folder.is_symlink() or not all(ours):
        raise UserError(
            f"--output {run}: {FOLDER}/ there is a link or not of this project; remove it, or pass "
            "another folder"
        )


def clear(run: Path) -> None:
    """Delete the curves of an earlier experiment. Raises `UserError` if that fails."""
    if (run / FOLDER).exists():
        with writing_to(run):
            shutil.rmtree(run / FOLDER)


def writer_class() -> Any:
    """The class that writes for TensorBoard. Raises `UserError` without the package."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "--tensorboard: the package is not installed; run: "
            "pip install -r requirements-tensorboard.txt"
        ) from error
    return SummaryWriter


def examples(batches: Batches) -> Tensor:
    """The first images of the next epoch, float32 (n, 3, H, W) in -1..1; `batches` stay as is."""
    shown = copy.copy(batches)
    shown.generator = torch.Generator()
    shown.generator.set_state(batches.generator.get_state())
    if batches.next_view is not None:
        shown.next_view = batches.next_view.clone()
    kind = batches.device.type
    devices = [] if kind == "cpu" else [batches.device.index or 0]
    with torch.random.fork_rng(devices, device_type="cuda" if kind == "cpu" else kind):
        images, _ = next(iter(shown))
    return images[:EXAMPLES]
