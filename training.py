"""The plain PyTorch loop: seed, device, one epoch, one fit, and the folds of a cross-validation."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import bloodmnist
from bloodmnist import Dataset, Folds, Split
from command_line import UserError

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted: Adam on the cross-entropy, a constant learning rate."""

    epochs: int
    batch_size: int
    lr: float


@dataclass(frozen=True)
class Run:
    """One trained model's record. Probabilities are float32 (images, classes)."""

    seed: int
    fold: int
    history: list[dict]  # a row an epoch
    val_labels: np.ndarray  # of the images that this fold holds out
    val_probabilities: np.ndarray
    test_probabilities: np.ndarray | None  # None where the protocol does not score this fold
    train_seconds: float


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
    return torch.device(name)


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
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """One pass over the batches; returns the mean loss and accuracy seen while training."""
    model.train()
    loss_sum = correct = count = 0
    for images, labels in batches:
        logits = model(images)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        loss_sum += loss.detach() * len(labels)
        correct += (logits.argmax(1) == labels).sum()
        count += len(labels)
    return float(loss_sum) / count, float(correct) / count


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch_size: int = 128) -> Tensor:
    """Class probabilities, float32 (N, classes) on the CPU, of uint8 images (N, H, W, 3)."""
    model.eval()
    parts = [model(bloodmnist.normalise(part)).float() for part in images.split(batch_size)]
    return torch.cat(parts).softmax(1).cpu()


def fit(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    recipe: Recipe,
    generator: torch.Generator,
) -> Iterator[dict]:
    """Train `model` in place; yields a row of the history an epoch, scored on `val`.

    `train` and `val` are images, uint8 (N, H, W, 3), and labels; `generator` orders the batches.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=True)
    images, labels = val
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        batches = bloodmnist.batches(*train, recipe.batch_size, generator)
        train_loss, train_accuracy = train_epoch(model, optimizer, batches)
        if not math.isfinite(train_loss):
            raise UserError(
                f"training diverged: the loss is {train_loss} in epoch {epoch}; lower --lr"
            )
        seconds = time.perf_counter() - start  # training alone, without the scoring below
        val_loss, val_accuracy = loss_and_accuracy(predict(model, images), labels.cpu())
        yield {
            "epoch": epoch,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "train_seconds": seconds,
        }


def loss_and_accuracy(probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of probabilities (N, classes) against labels (N,)."""
    log = probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()
    loss = nn.functional.nll_loss(log, labels)
    return float(loss), float((probabilities.argmax(1) == labels).float().mean())


def protocol_folds(protocol: str, dataset: Dataset, folds: int, seed: int) -> tuple[Split, Folds]:
    """The pool of images and its folds under a protocol.

    "cross-validation" keeps the test split out. "as-published" repeats the published code, which
    pools all three splits, so that most test images are trained on.
    """
    pool = dataset.train + dataset.val
    if protocol == "cross-validation":
        return pool, bloodmnist.stratified_folds(pool.labels, folds, seed)
    pool += dataset.test
    return pool, bloodmnist.plain_folds(pool.labels, folds, seed)


def cross_validate(
    build: Build,
    dataset: Dataset,
    protocol: str,
    folds: int,
    recipe: Recipe,
    seed: int,
    device: torch.device,
) -> list[Run]:
    """Train a new model on each fold; each reads the test split once, after its last epoch.

    Under "as-published" only the last fold's model reads it. Each fold seeds torch afresh from
    (seed, fold), so it does not depend on the folds before it.
    """
    keep_freed_memory()
    pool, split_rows = protocol_folds(protocol, dataset, folds, seed)
    images, labels = bloodmnist.to_device(pool, device)
    test_images, _ = bloodmnist.to_device(dataset.test, device)
    runs = []
    with tqdm(total=folds * recipe.epochs, unit="epoch", disable=None) as bar:
        for fold, rows in enumerate(split_rows):
            torch.manual_seed(int(np.random.SeedSequence([seed, fold]).generate_state(1)[0]))
            generator = torch.Generator().manual_seed(torch.initial_seed())
            model = build().to(device, memory_format=torch.channels_last)
            train, val = ((images[r], labels[r]) for r in map(torch.from_numpy, rows))
            history = []
            for row in fit(model, train, val, recipe, generator):
                history.append({"seed": seed, "fold": fold, **row})
                log_epoch(history[-1], folds, recipe.epochs, bar)
            scored = protocol == "cross-validation" or fold == folds - 1
            runs.append(
                Run(
                    seed=seed,
                    fold=fold,
                    history=history,
                    val_labels=val[1].cpu().numpy(),
                    val_probabilities=predict(model, val[0]).numpy(),
                    test_probabilities=predict(model, test_images).numpy() if scored else None,
                    train_seconds=sum(row["train_seconds"] for row in history),
                )
            )
    return runs


def log_epoch(row: dict, folds: int, epochs: int, bar: tqdm) -> None:
    """Show an epoch: on the progress bar of a terminal, else as a line."""
    text = f"loss {row['train_loss']:.3f}, held-out accuracy {row['val_accuracy']:.4f}"
    bar.set_postfix_str(f"fold {row['fold'] + 1}/{folds}, {text}", refresh=False)
    bar.update()
    if bar.disable:
        place = f"fold {row['fold'] + 1}/{folds} epoch {row['epoch']}/{epochs}"
        print(f"{place}: {text}, {row['train_seconds']:.1f} s", flush=True)
