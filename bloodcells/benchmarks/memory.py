"""Peak memory of a process, and of training by image size."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch

from bloodcells.benchmarks.timing import process_of_its_own
from bloodcells.cli.endings import out_of_memory
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist, download
from bloodcells.data.bloodmnist import Labelled
from bloodcells.training.device import keep_freed_memory

COUNTS = {"train": 11_959, "val": 1_712, "test": 3_421}  # images in BloodMNIST's splits
Train = Callable[[str, Recipe, Labelled, Labelled], object]  # as `train_ours` in `dataloader`
TrainEpoch = Callable[[Labelled, Recipe], object]

TRAINED = 256  # images; all are loaded


def peak() -> int | None:
    """Peak memory of this process in MiB; None where the system does not report it."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage would count the process that started this one too
        lines = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(lines[0].split()[1]) // 2**10 if lines else None  # some kernels leave it out
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return used // (2**20 if sys.platform == "darwin" else 2**10)


def of_training(
    size: int, recipe: Recipe, train: Train, counts: dict[str, int] = COUNTS
) -> int | None:
    """Peak memory in MiB of training CellNet on the CPU, with a generated data file.

    None where it is unknown: the system does not report it, or ended a process that took too much.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / download.file_name(size)
            np.savez_compressed(path, **arrays(size, counts))  # type: ignore[arg-type]
            with process_of_its_own() as process:
                return process.submit(train_a_little, path, size, recipe, train).result()
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, BrokenProcessPool) and not out_of_memory(error):
            raise
        return None


def of_a_mapped_epoch(
    count: int, recipe: Recipe, train: TrainEpoch
) -> dict[str, int | float | None]:
    """Seconds of an epoch over `count` black images in a mapped file, and its memory.

    `mib_above_the_array` is the peak of the process less the size of the array, whose pages the
    system may drop at any time, and `mib_of_libraries` the part that was there before training;
    both are None where they are unknown. The file is sparse: no disk is measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.lib.format.open_memmap(path, "w+", np.uint8, (count, 28, 28, 3))  # takes no space
        with process_of_its_own() as process:
            return {"images": count} | process.submit(train_on_mapped, path, recipe, train).result()


def train_on_mapped(path: Path, recipe: Recipe, train: TrainEpoch) -> dict[str, int | float | None]:
    """Train for an epoch on the images of a file; measures as `of_a_mapped_epoch`."""
    keep_freed_memory()
    before = peak()
    pixels = np.load(path, mmap_mode="c")  # read as needed; torch wants it writable
    images = torch.from_numpy(pixels)
    labels = torch.arange(len(images)) % len(bloodmnist.CLASS_NAMES)
    start = time.perf_counter()
    train(Labelled(images, labels), recipe)
    seconds, most = time.perf_counter() - start, peak()
    above = None if most is None else most - pixels.nbytes // 2**20
    return {"seconds": seconds, "mib_above_the_array": above, "mib_of_libraries": before}


def arrays(size: int, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays of a data file as medmnist stores it, with black images."""
    found, classes = {}, len(bloodmnist.CLASS_NAMES)
    for name, count in counts.items():
        found[f"{name}_images"] = np.zeros((count, size, size, 3), np.uint8)
        found[f"{name}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    return found


def train_a_little(path: Path, size: int, recipe: Recipe, train: Train) -> int | None:
    """Load a file, train on a few batches of it, and return the peak memory in MiB."""
    keep_freed_memory()
    splits = [bloodmnist.read_split(path, name, size) for name in bloodmnist.SPLITS]
    cpu, rows = torch.device("cpu"), np.arange(TRAINED)
    images = bloodmnist.Pool(*splits[:2]).to(cpu)
    held_out = images.choose(len(splits[0]) + rows[:128])
    train("CellNet", recipe, images.choose(rows), held_out)
    return peak()
