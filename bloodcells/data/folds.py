"""Which images each model of an experiment trains on, holds out, and is scored on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from bloodcells.cli.recipe import SEEDED
from bloodcells.data.bloodmnist import Dataset, Pool
from bloodcells.errors import UserError

Rows = list[tuple[np.ndarray, np.ndarray]]  # (training rows, held-out rows) of each fold


@dataclass(frozen=True)
class Fold:
    """One model to train: its seed, and the rows of a pool that it trains on and holds out.

    Protocols with seeds use it, too: then all models have the same rows, and `fold` is None.
    """

    seed: int
    fold: int | None  # its number; None if the protocol has seeds instead
    train: np.ndarray
    held_out: np.ndarray | None  # None if nothing is held out
    scored: bool  # whether it is scored on the test split
    variant: str = ""  # of the recipe, if the experiment compares several

    @property
    def name(self) -> str:
        """Such as seed-0 or seed-0-fold-2, with the variant in front if there is one."""
        name = f"seed-{self.seed}" + ("" if self.fold is None else f"-fold-{self.fold}")
        return f"{self.variant}-{name}" if self.variant else name


def make_folds(
    protocol: str, dataset: Dataset, folds: int, runs: int, seed: int
) -> tuple[Pool, list[Fold]]:
    """The pool of images, and the models to train on it. Raises `UserError` for too many folds,
    and `ValueError` for an unknown protocol.

    "cross-validation": stratified folds of train + validation. "as-published": the published
    code's plain folds of all three splits, so that most test images are trained on; only the last
    fold's model is scored on the test split. "official": train on train and hold out validation,
    with `runs` seeds starting at `seed`. "train-and-validation": the same seeds, but train on both
    splits; nothing is held out, so no setting can be chosen by it.
    """
    pool = Pool(dataset.train, dataset.val)
    if protocol in SEEDED:
        held_out: np.ndarray | None
        train, held_out = np.split(np.arange(len(pool)), [len(dataset.train)])
        if protocol == "train-and-validation":
            train, held_out = np.arange(len(pool)), None
        return pool, [Fold(seed + run, None, train, held_out, True) for run in range(runs)]
    if protocol == "cross-validation":
        rows = stratified_folds(pool.labels, folds, seed, len(pool.names))
        return pool, [Fold(seed, number, *parts, True) for number, parts in enumerate(rows)]
    if protocol != "as-published":
        raise ValueError(f"no protocol {protocol!r}")
    pool = Pool(*dataset.splits().values())
    rows = plain_folds(pool.labels, folds, seed)
    return pool, [Fold(seed, n, *parts, n == folds - 1) for n, parts in enumerate(rows)]


def stratified_folds(labels: np.ndarray, folds: int, seed: int, classes: int) -> Rows:
    """Seeded, stratified folds. Raises `UserError` if a class has fewer images than folds."""
    smallest = np.bincount(labels, minlength=classes).min()
    if folds > smallest:
        raise UserError(f"--folds {folds}: the smallest class has only {smallest} images")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels))


def plain_folds(labels: np.ndarray, folds: int, seed: int) -> Rows:
    """Seeded folds, not stratified. Raises `UserError` if there are more folds than images."""
    if folds > len(labels):
        raise UserError(f"--folds {folds}: there are only {len(labels)} images")
    return list(KFold(folds, shuffle=True, random_state=seed).split(labels))
