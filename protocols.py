"""Which images each model trains on, and the loop over folds or seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

import bloodmnist
import training
from bloodmnist import Dataset, Split
from measure import matrix_product_gflops
from recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """One model to train, on rows of a pool of images."""

    seed: int
    fold: int | None  # None where the protocol has no folds
    train: np.ndarray
    held_out: np.ndarray
    scored: bool  # whether it reads the test split


@dataclass(frozen=True)
class Run:
    """One trained model's record. Probabilities are float32 (images, classes)."""

    seed: int
    fold: int | None
    history: list[dict]  # a row an epoch
    val_labels: np.ndarray  # of the images held out
    val_probabilities: np.ndarray
    test_probabilities: np.ndarray | None  # None where the protocol does not score this run
    test_one_view: np.ndarray | None  # the same without averaging over views
    train_seconds: float
    weights: dict[str, torch.Tensor]  # the model's state, on the CPU
    # mean over samples of float32 matrix products between the epochs: what the seconds are worth
    machine_gflops: float


def plan(
    protocol: str, dataset: Dataset, folds: int, runs: int, seed: int
) -> tuple[Split, list[Plan]]:
    """The pool of images and the models to train on it.

    "cross-validation": stratified folds of train + validation. "as-published": the published
    code's plain folds of all three splits, so that most test images are trained on; the last
    fold's model alone reads the test split. "official": train on train, hold out validation,
    `runs` seeds from `seed` on.
    """
    pool = dataset.train + dataset.val
    if protocol == "official":
        train, held_out = np.split(np.arange(len(pool)), [len(dataset.train)])
        return pool, [Plan(seed + run, None, train, held_out, True) for run in range(runs)]
    if protocol == "cross-validation":
        rows = bloodmnist.stratified_folds(pool.labels, folds, seed)
        return pool, [Plan(seed, fold, *parts, True) for fold, parts in enumerate(rows)]
    pool += dataset.test
    rows = bloodmnist.plain_folds(pool.labels, folds, seed)
    return pool, [Plan(seed, f, *parts, f == folds - 1) for f, parts in enumerate(rows)]


def train_all(
    build: Callable[[], nn.Module],
    dataset: Dataset,
    plans: tuple[Split, list[Plan]],
    recipe: Recipe,
    device: torch.device,
) -> list[Run]:
    """Train a new model for each plan; a scored one reads the test split when it is done.

    It is read for one result, the recipe's views; their first view is kept apart beside it.
    """
    training.keep_freed_memory()
    pool, models = plans
    images, labels = bloodmnist.to_device(pool, device)
    test_images, _ = bloodmnist.to_device(dataset.test, device)
    runs = []
    with tqdm(total=len(models) * recipe.epochs, unit="epoch", disable=None) as bar:
        for number, part in enumerate(models, start=1):
            gflops = [matrix_product_gflops("float32", device, repeats=1)]
            generator = seed_all(part)
            model = build().to(device, memory_format=torch.channels_last)
            rows = map(torch.from_numpy, (part.train, part.held_out))
            train, val = ((images[r], labels[r]) for r in rows)
            history = []
            for row in training.fit(model, train, val, recipe, generator):
                history.append({"seed": part.seed, "fold": part.fold, **row})
                gflops.append(matrix_product_gflops("float32", device, repeats=1))
                log_epoch(row, f"run {number}/{len(models)}", recipe.epochs, bar)

            def predict(images: torch.Tensor, views: int, model: nn.Module = model) -> np.ndarray:
                return training.predict(model, images, views, recipe.precision).numpy()

            runs.append(
                Run(
                    seed=part.seed,
                    fold=part.fold,
                    history=history,
                    val_labels=val[1].cpu().numpy(),
                    val_probabilities=predict(val[0], recipe.views),
                    test_probabilities=predict(test_images, recipe.views) if part.scored else None,
                    test_one_view=(
                        predict(test_images, 1) if part.scored and recipe.views > 1 else None
                    ),
                    train_seconds=sum(row["train_seconds"] for row in history),
                    weights={k: w.cpu().contiguous() for k, w in model.state_dict().items()},
                    machine_gflops=float(np.mean(gflops)),
                )
            )
    return runs


def seed_all(part: Plan) -> torch.Generator:
    """Seed torch from the plan's seed and fold, so that no model depends on those before it.

    Returns the generator of the batches, which starts from the same seed as the weights.
    """
    entropy = [part.seed] if part.fold is None else [part.seed, part.fold]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
    return torch.Generator().manual_seed(torch.initial_seed())


def log_epoch(row: dict, run: str, epochs: int, bar: tqdm) -> None:
    """Show an epoch: on the progress bar of a terminal, else as a line."""
    text = f"loss {row['train_loss']:.3f}, held-out accuracy {row['val_accuracy']:.4f}"
    bar.set_postfix_str(f"{run}, {text}", refresh=False)
    bar.update()
    if bar.disable:
        place = f"{run} epoch {row['epoch']}/{epochs}"
        print(f"{place}: {text}, {row['train_seconds']:.1f} s", flush=True)
