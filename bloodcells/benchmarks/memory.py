"""How much memory a process has held at most, and a training, by the size of its images."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

import models
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist, download, folds
from bloodcells.data.bloodmnist import Dataset, Pool
from bloodcells.data.folds import Plan

COUNTS = {"train": 11_959, "val": 1_712, "test": 3_421}  # BloodMNIST's
TRAINED = 256  # two batches; all images are loaded


def peak() -> int | None:
    """MiB that this process has held at most; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage would count the process that started this one too
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) // 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return used // (2**20 if sys.platform == "darwin" else 2**10)


def of_training(size: int, recipe: Recipe, counts: dict[str, int] = COUNTS) -> int | None:
    """MiB that training CellNet takes on the CPU, the data set read from a generated file."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / download.file_name(size)
        np.savez_compressed(path, **arrays(size, counts))
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(train_a_little, path, size, recipe).result()


def arrays(size: int, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """A file's content as medmnist stores it, all black."""
    found = {}
    for name, count in counts.items():
        found[f"{name}_images"] = np.zeros((count, size, size, 3), np.uint8)
        found[f"{name}_labels"] = (np.arange(count) % 8).astype(np.uint8)[:, None]
    return found


def train_a_little(path: Path, size: int, recipe: Recipe) -> int | None:
    """Load a file, train on two batches of it, and tell the peak."""
    splits = {name: bloodmnist.read_split(path, name, size) for name in bloodmnist.SPLITS}
    dataset = Dataset(**splits, size=size, source="generated", md5=None, synthetic=True)
    pool, rows = Pool(dataset.train, dataset.val), np.arange(TRAINED)
    plans = pool, [Plan(0, None, rows, len(dataset.train) + rows[:128], scored=False)]
    build = partial(models.build, "CellNet", size)
    with contextlib.redirect_stdout(None):  # the epochs of two batches tell nothing
        folds.train_all(build, dataset, plans, recipe, torch.device("cpu"))
    return peak()
