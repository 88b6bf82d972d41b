"""The training metrics of an epoch, summed batch by batch, and a check for divergence."""

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
    """Loss, accuracy and seconds of one training epoch; its clock starts when it is created.

    Sums stay on the device, so that no step waits for the previous one.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.losses: list[Tensor] = []  # mean loss of each batch
        self.rates: list[float] = []  # learning rate of each batch
        self.loss_sum: Tensor | float = 0.0
        self.correct: Tensor | float = 0.0
        self.count = 0

    def add(
        self, loss: Tensor, logits: Tensor, labels: Tensor, optimizers: Sequence[Optimizer]
    ) -> None:
        """Add a batch, before its step: mean loss (), logits (B, classes), labels (B,).

        Of labels (B, classes), which are shares of the classes, the largest counts.
        """
        self.losses.append(loss.detach())
        self.rates.append(optimizers[0].param_groups[0]["lr"])
        self.loss_sum += loss.detach() * len(labels)
        labels = labels if labels.ndim == 1 else labels.argmax(1)
        self.correct += (logits.argmax(1) == labels).sum()
        self.count += len(labels)

    def row(self) -> dict[str, float]:
        """The epoch's row of the history, over all processes.

        With `focus`, the loss and accuracy are mostly those of hard images, so worse than on
        held-out ones. Raises `DivergedError`, which names the first batch whose loss is NaN or
        infinite, and its learning rate.
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
    """Raise `DivergedError` if the held-out loss after an epoch is NaN or infinite.

    The training loss may still be finite if the last step ruined the weights.
    """
    loss = row.get("val_loss", 0.0)
    if not math.isfinite(loss):
        raise DivergedError(
            f"training diverged: after epoch {epoch}"
            + (f", whose last batch had a learning rate of {row['lr']:g}" if "lr" in row else "")
            + f", the loss on held-out images is {loss}; lower --lr"
        )
