"""Curves and example images for TensorBoard, an optional package."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bloodcells.errors import UserError
from bloodcells.training.augmentation import Batches

EXAMPLES = 32  # images of the first batch


class Curves:
    """What TensorBoard shows of one model's training."""

    def __init__(self, folder: Path, epochs_done: int):
        """Write to `folder`; a model that begins anew replaces what is there.

        Raises `UserError` if the package is not installed, or if the folder cannot be written.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "--tensorboard: the package is not installed; run: "
                "pip install -r requirements-tensorboard.txt"
            ) from error
        try:
            if not epochs_done and folder.exists():
                shutil.rmtree(folder)
            self.writer = SummaryWriter(str(folder), purge_step=epochs_done + 1)
        except OSError as error:
            raise UserError(f"--tensorboard: {folder}: cannot be written: {error}") from error

    def show_examples(self, batches: Batches) -> None:
        """Write the images with which an epoch would begin now, augmented."""
        self.writer.add_images("training images", (examples(batches) + 1) / 2, 0)

    def add(self, row: Mapping[str, float], network: nn.Module) -> None:
        """Write an epoch's row of the history, and the norm of its last batch's gradients."""
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name not in ("seed", "fold", "epoch") and value is not None:
                self.writer.add_scalar(name, value, epoch)
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.writer.add_scalar("gradient_norm_of_last_batch", norm, epoch)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


def examples(batches: Batches) -> Tensor:
    """The first images of the next epoch, float32 (n, 3, H, W) in -1..1; `batches` stay as is."""
    shown = copy.copy(batches)
    shown.generator = torch.Generator()
    shown.generator.set_state(batches.generator.get_state())
    if batches.next_view is not None:
        shown.next_view = batches.next_view.clone()
    with torch.random.fork_rng(devices=[batches.device] if batches.device.type == "cuda" else []):
        images, _ = next(iter(shown))
    return images[:EXAMPLES]
