"""What an epoch comes to, summed while it trains, and whether it still makes sense."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from bloodcells.errors import UserError
from bloodcells.training import distributed


class DivergedError(UserError):
    """The loss is NaN or infinite."""


class EpochMeter:
    """Loss, accuracy and seconds of one epoch in training; its clock starts when it is made.

    Sums stay on the device, so that no step waits for the one before.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.losses: list[Tensor] = []  # of each batch, its mean
        self.rates: list[float] = []  # learning rate of each batch
        self.loss_sum: Tensor | float = 0.0
        self.correct: Tensor | float = 0.0
        self.count = 0

    def add(
        self, loss: Tensor, logits: Tensor, labels: Tensor, optimizers: Sequence[Optimizer]
    ) -> None:
        """Count a batch, before its step: mean loss (), logits (B, classes), labels (B,)."""
        self.losses.append(loss.detach())
        self.rates.append(optimizers[0].param_groups[0]["lr"])
        self.loss_sum += loss.detach() * len(labels)
        self.correct += (logits.argmax(1) == labels).sum()
        self.count += len(labels)

    def row(self) -> dict[str, float]:
        """The epoch's columns of the history; of several processes, over all of them.

        With a focus on hard images, loss and accuracy are mostly of those: worse than on held-out
        ones. Raises `DivergedError`, which names the first batch that went wrong and its rate.
        """
        totals = [float(self.loss_sum), float(self.correct), float(self.count)]
        loss, correct, count = distributed.summed(totals, self.losses[0].device)
        seconds = time.perf_counter() - self.start
        if not math.isfinite(loss):
            losses = torch.stack(self.losses).tolist()
            bad = [number for number, value in enumerate(losses) if not math.isfinite(value)]
            if not bad:
                raise DivergedError("training diverged in another process; lower --lr")
            raise DivergedError(
                f"training diverged: batch {bad[0] + 1} of {len(losses)}, at a learning rate of "
                f"{self.rates[bad[0]]:g}, has a loss of {losses[bad[0]]}; lower --lr"
            )
        return {
            "train_loss": loss / count,
            "train_accuracy": correct / count,
            "lr": self.rates[-1],
            "train_seconds": seconds,
        }


def refuse_divergence(epoch: int, row: dict) -> None:
    """Raise `DivergedError` if an epoch's row of the history has a loss that is NaN or infinite.

    The training loss may still be finite where the last step ruined the weights.
    """
    loss = row.get("val_loss", 0.0)
    if not math.isfinite(loss):
        raise DivergedError(
            f"training diverged: after epoch {epoch}, whose last batch had a learning rate of "
            f"{row['lr']:g}, the loss on held-out images is {loss}; lower --lr"
        )
