"""Which images each model trains on, and the loop over folds or seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from bloodcells.benchmarks.timing import matrix_product_gflops
from bloodcells.cli.arguments import SEEDED
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Dataset, Images, Pool
from bloodcells.training import distributed, loop

if TYPE_CHECKING:
    from bloodcells.training.checkpoint import Keeper, Work

Labelled = tuple[Images, torch.Tensor]  # uint8 (N, H, W, 3) and int64 (N,)


@dataclass(frozen=True)
class Member:
    """One model of a command."""

    seed: int
    fold: int | None  # None where the protocol has no folds

    @property
    def name(self) -> str:
        """seed-0, or seed-0-fold-2."""
        return f"seed-{self.seed}" + ("" if self.fold is None else f"-fold-{self.fold}")


@dataclass(frozen=True)
class Plan(Member):
    """One model to train, on rows of a pool of images."""

    train: np.ndarray
    held_out: np.ndarray | None  # None where all are trained on
    scored: bool  # whether it reads the test split


@dataclass(frozen=True)
class Run(Member):
    """One trained model's record. Probabilities are float32 (images, classes)."""

    history: list[dict]  # a row an epoch
    val_labels: np.ndarray | None  # of the images held out, if any
    val_probabilities: np.ndarray | None
    test_probabilities: np.ndarray | None  # None where the protocol does not score this run
    test_one_view: np.ndarray | None  # the same without averaging over views
    train_seconds: float
    weights: dict[str, torch.Tensor]  # the model's state, on the CPU
    # mean over samples of float32 matrix products between the epochs: what the seconds are worth
    machine_gflops: float


class Progress:
    """The epochs of all runs: on the progress bar of a terminal, else a line each."""

    def __init__(self, runs: int, epochs: int):
        silent = bool(distributed.rank()) or None  # None: where there is no terminal
        self.bar = tqdm(total=runs * epochs, unit="epoch", disable=silent)
        self.runs, self.epochs = runs, epochs
        self.run = 0  # the one at work, from 1 on

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def skip(self, epochs: int) -> None:
        """Count epochs that were trained before."""
        self.bar.update(epochs)

    def show(self, row: dict) -> None:
        """Count the epoch of a history's row, and show it."""
        place = f"run {self.run}/{self.runs}"
        text = f"loss {row['train_loss']:.3f}"
        if "val_accuracy" in row:
            text += f", held-out accuracy {row['val_accuracy']:.4f}"
        self.bar.set_postfix_str(f"{place}, {text}", refresh=False)
        self.bar.update()
        if self.bar.disable:
            seconds = f"{row['train_seconds']:.1f} s"
            print(f"{place} epoch {row['epoch']}/{self.epochs}: {text}, {seconds}", flush=True)


def plan(
    protocol: str, dataset: Dataset, folds: int, runs: int, seed: int
) -> tuple[Pool, list[Plan]]:
    """The pool of images and the models to train on it.

    "cross-validation": stratified folds of train + validation. "as-published": the published
    code's plain folds of all three splits, so that most test images are trained on; the last
    fold's model alone reads the test split. "official": train on train, hold out validation,
    `runs` seeds from `seed` on. "train-and-validation": the same, but train on both; no choice
    can be made by it.
    """
    pool = Pool(dataset.train, dataset.val)
    if protocol in SEEDED:
        train, held_out = np.split(np.arange(len(pool)), [len(dataset.train)])
        if protocol == "train-and-validation":
            train, held_out = np.arange(len(pool)), None
        return pool, [Plan(seed + run, None, train, held_out, True) for run in range(runs)]
    if protocol == "cross-validation":
        rows = bloodmnist.stratified_folds(pool.labels, folds, seed)
        return pool, [Plan(seed, fold, *parts, True) for fold, parts in enumerate(rows)]
    pool = Pool(*dataset.splits().values())
    rows = bloodmnist.plain_folds(pool.labels, folds, seed)
    return pool, [Plan(seed, f, *parts, f == folds - 1) for f, parts in enumerate(rows)]


def train_all(
    build: Callable[[], nn.Module],
    dataset: Dataset,
    plans: tuple[Pool, list[Plan]],
    recipe: Recipe,
    device: torch.device,
    work: Work | None = None,
    prefix: str = "",
) -> list[Run]:
    """Train a new model for each plan; a scored one reads the test split when it is done.

    It is read for one result, the recipe's views; their first view is kept apart beside it. With
    `work`, models that it has are not trained again, and of the others only those that it names,
    with `prefix`; the result leaves out what other processes are still at.
    """
    loop.keep_freed_memory()
    pool, models = plans
    images, labels = pool.to(device)
    test_images, _ = bloodmnist.to_device(dataset.test, device)
    runs = []
    with Progress(len(models), recipe.epochs) as progress:
        for part in models:
            progress.run += 1
            name = prefix + part.name
            run = work.finished(name) if work else None
            if run is not None or (work and name not in work.names):
                progress.skip(recipe.epochs)
            else:
                train, val = (labelled(images, labels, r) for r in (part.train, part.held_out))
                keeper = work.keeper(name) if work else None
                run = train_one(build, part, (train, val, test_images), recipe, keeper, progress)
                if work:
                    work.finish(name, run)
            runs.append(run)
    return [run for run in runs if run is not None]


def labelled(images: Images, labels: torch.Tensor, rows: np.ndarray | None) -> Labelled | None:
    """Those rows of the images and labels; None for no rows."""
    if rows is None:
        return None
    chosen = torch.from_numpy(rows)
    return images.choose(chosen), labels[chosen]


def train_one(
    build: Callable[[], nn.Module],
    part: Plan,
    data: tuple[Labelled, Labelled | None, torch.Tensor],
    recipe: Recipe,
    keeper: Keeper | None,
    progress: Progress,
) -> Run:
    """Train and score one model, going on where `keeper` has it.

    `data` is what it trains on, what is held out, and the test split's images.
    """
    train, val, test_images = data
    device = test_images.device
    generator = seed_all(part)
    model = build().to(device, memory_format=torch.channels_last)
    batches, optimization = loop.begin(model, train, recipe, generator)
    parts = {"network": model, "batches": batches, "optimization": optimization}
    history = keeper.restore(parts, device) if keeper else []
    progress.skip(len(history))
    try:
        for row in loop.fit(model, batches, optimization, val, recipe, len(history)):
            gflops = matrix_product_gflops("float32", device, repeats=1)
            history.append({"seed": part.seed, "fold": part.fold, **row, "machine_gflops": gflops})
            if keeper:
                keeper.save(parts, history, device)
            progress.show(row)
    except KeyboardInterrupt:
        if keeper:
            keeper.flush()
        raise

    def predict(images: torch.Tensor | Images, views: int) -> np.ndarray:
        return loop.predict(model, images, views, recipe.precision).numpy()

    return Run(
        seed=part.seed,
        fold=part.fold,
        history=history,
        val_labels=val[1].cpu().numpy() if val else None,
        val_probabilities=predict(val[0], recipe.views) if val else None,
        test_probabilities=predict(test_images, recipe.views) if part.scored else None,
        test_one_view=predict(test_images, 1) if part.scored and recipe.views > 1 else None,
        train_seconds=sum(row["train_seconds"] for row in history),
        weights={k: w.cpu().contiguous() for k, w in model.state_dict().items()},
        machine_gflops=float(np.mean([row["machine_gflops"] for row in history])),
    )


def seed_all(part: Plan) -> torch.Generator:
    """Seed torch from the plan's seed and fold, so that no model depends on those before it.

    Returns the generator of the batches, which starts from the same seed as the weights.
    """
    entropy = [part.seed] if part.fold is None else [part.seed, part.fold]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
    return torch.Generator().manual_seed(torch.initial_seed())
