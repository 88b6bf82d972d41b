"""The plain PyTorch loop: device and precision, one epoch, one fit, prediction."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from bloodcells.cli.arguments import UserError
from bloodcells.cli.recipe import Recipe
from bloodcells.data.bloodmnist import Images, normalise
from bloodcells.training import distributed, interruption
from bloodcells.training.augmentation import Batches, view
from bloodcells.training.optim import Optimization, rate_share


class DivergedError(UserError):
    """The loss is no number any more."""


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU. Raises `UserError`."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise UserError(f"--device {name}: this machine or this build of torch has none; use cpu")
    torch.backends.cudnn.allow_tf32 = False  # convolutions in float32, as matrix products are
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> str:
    """ "float32" or "bfloat16"; "auto" takes bfloat16 where the device computes it natively."""
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bfloat16" if native else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model computes in that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def keep_freed_memory() -> None:
    """Have the C library reuse a step's memory for the next step, where it is glibc.

    By default it hands large blocks back to the system and pays for new pages in every step: a
    third of the paper's CNN's training time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3  # names of malloc.h
        # older releases take no more than 32 MiB, and a refused first call must end it
        if mallopt(m_mmap_threshold, 2**30) or mallopt(m_mmap_threshold, 2**25):
            mallopt(m_trim_threshold, 2**31 - 1)


def train_epoch(
    model: nn.Module,
    batches: Batches,
    optimization: Optimization,
    recipe: Recipe,
) -> tuple[float, float, Tensor]:
    """One epoch's steps; returns the mean loss and accuracy while training, and each batch's loss.

    With the recipe's focus these are mostly of hard images: worse than on held-out ones.
    """
    model.train()
    loss_sum = correct = count = 0
    batch_losses = []
    for images, labels in batches:
        interruption.check(images.device)
        with autocast(images.device, recipe.precision):
            logits = model(images).float()
        losses = nn.functional.cross_entropy(
            logits, labels, label_smoothing=recipe.label_smoothing, reduction="none"
        )
        loss = losses.mean()
        optimization.zero_grad()
        loss.backward()
        distributed.average_gradients(model, len(labels), len(batches.rows))
        optimization.step()

        batches.record(losses.detach())
        batch_losses.append(loss.detach())
        loss_sum += loss.detach() * len(labels)
        correct += (logits.argmax(1) == labels).sum()
        count += len(labels)
    totals = [float(loss_sum), float(correct), count]
    loss_sum, correct, count = distributed.summed(totals, labels.device)
    return loss_sum / count, correct / count, torch.stack(batch_losses)


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: Tensor | Images,
    views: int = 1,
    precision: str = "float32",
    batch_size: int = 64,
) -> Tensor:
    """Class probabilities, float32 (N, classes) on the CPU, of uint8 images (N, H, W, 3).

    With `views` above 1, their mean over the first `views` of the rotations and reflections.
    """
    model.eval()
    total = 0
    with autocast(images.device, precision):
        for which in range(views):
            starts = range(0, len(images), batch_size)
            parts = (view(images[start : start + batch_size], which) for start in starts)
            logits = torch.cat([model(normalise(part)).float() for part in parts])
            total = total + logits.softmax(1).cpu()
    return total / views


def begin(
    model: nn.Module,
    train: tuple[Tensor | Images, Tensor],
    recipe: Recipe,
    generator: torch.Generator,
) -> tuple[Batches, Optimization]:
    """What `fit` needs: the batches of `train`, images uint8 (N, H, W, 3) and labels, in the order
    of `generator`, and the optimizers of `model`.
    """
    batches = Batches(*train, recipe, generator)
    return batches, Optimization(model, recipe, steps=recipe.epochs * len(batches))


def fit(
    model: nn.Module,
    batches: Batches,
    optimization: Optimization,
    val: tuple[Tensor | Images, Tensor] | None,
    recipe: Recipe,
    begun: int = 0,
) -> Iterator[dict]:
    """Train `model` in place; yields a row of the history an epoch, scored on one view of `val`.

    `val` is images, uint8 (N, H, W, 3), and labels, or None where nothing is held out; `begun`
    epochs were trained before.
    """
    for epoch in range(begun + 1, recipe.epochs + 1):
        distributed.own_random_numbers(batches.generator.initial_seed(), epoch)
        start = time.perf_counter()
        train_loss, train_accuracy, losses = train_epoch(model, batches, optimization, recipe)
        seconds = time.perf_counter() - start  # training alone, without the scoring below
        held_out = score(model, *val, recipe) if val else {}
        found = {"in training": train_loss}
        if held_out:
            found["on held-out images"] = held_out["val_loss"]
        if not all(map(math.isfinite, found.values())):
            losses_found = " and ".join(f"{loss} {where}" for where, loss in found.items())
            raise DivergedError(
                f"training diverged: in epoch {epoch}, {divergence(losses, epoch, recipe)}, the "
                f"loss is {losses_found}; lower --lr"
            )
        yield {
            "epoch": epoch,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            **held_out,
            "train_seconds": seconds,
        }


def score(model: nn.Module, images: Tensor | Images, labels: Tensor, recipe: Recipe) -> dict:
    """The held-out columns of a row of the history: `val_loss` and `val_accuracy`, of one view."""
    probabilities = predict(model, images, precision=recipe.precision)
    # batch normalisation has other statistics in each process; the first one's count
    loss, accuracy = distributed.from_first(partial(loss_and_accuracy, probabilities, labels.cpu()))
    return {"val_loss": loss, "val_accuracy": accuracy}


def divergence(losses: Tensor, epoch: int, recipe: Recipe) -> str:
    """Where an epoch's training was lost: the first batch whose loss is no number, and its rate.

    The last batch if none is: the weights may still be beyond use.
    """
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    batch = bad[0] if bad else len(losses) - 1
    step, steps = (epoch - 1) * len(losses) + batch, recipe.epochs * len(losses)
    rate = recipe.lr * rate_share(recipe, step, steps)
    return f"batch {batch + 1} of {len(losses)}, at a rate of {rate:g}"


def loss_and_accuracy(probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of probabilities (N, classes) against labels (N,)."""
    log = probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()
    loss = nn.functional.nll_loss(log, labels)
    return float(loss), float((probabilities.argmax(1) == labels).float().mean())
