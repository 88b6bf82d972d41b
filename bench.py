"""Measure how close training and prediction come to this machine's peak speed.

    python bench.py                  # everything, 8 to 20 minutes; writes plots/bench/
    python bench.py --repeats 3      # faster, less precise

Prints the machine's peak speed in matrix products, each network's speed as a share of it, the
operators that take a training step's time, images per second by batch size, the speed of the data
pipeline and of the paper's protocol against PyTorch's DataLoader (without workers), how time grows
with images, pixels and width, how a shared search scales with its workers, how long two processes
take to average their gradients, how soon each script answers --help, peak memory, and an epoch
over a million images of a file that is not loaded. Measurements that are compared, such as a
network's passes and the peak, are interleaved, so drift in the machine's speed hardly affects the
comparison.
Run nothing else at the same time. Writes bench.json and three figures.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_bench

if __name__ == "__main__":
    run_script(parse_bench, __file__)  # --help ends before torch loads; main parses again

import os
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import models
from bloodcells import ROOT
from bloodcells.benchmarks import all_reduce, dataloader, memory, search_scaling
from bloodcells.benchmarks.timing import Step, images_per_second, seconds
from bloodcells.cli.arguments import data_settings, settings_of, warning
from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Dataset, Labelled, Split
from bloodcells.data.folds import Fold
from bloodcells.evaluation.prediction import score
from bloodcells.reporting.figures import studies as figures
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment
from bloodcells.tracking.provenance import committed_code
from bloodcells.training.device import (
    choose_device,
    choose_precision,
    keep_freed_memory,
    matrix_product_gflops,
    seconds_in_turn,
)
from model_cnn import set_up, train_epoch

SCRIPTS = sorted(
    path.name for path in ROOT.glob("*.py") if path.name not in ("models.py", "bench.py")
)
BATCHES = (1, 8, 32, 64, 128, 512)
DATALOADER_IMAGES = 2560  # training images in the comparisons with the DataLoader
IMAGES = (1_000, 10_000, 100_000)
PROCESSES = 2  # that average their gradients
MAPPED = 1_000_000  # images of a file that is not loaded
PIXELS = (28, 64, 128, 224)
PRESET_OF = {
    "Baseline": "baseline",
    "ConvNet": "cnn-paper",
    "CellNet": "cnn-best",
    "RobustNet": "cnn-robust",
    "ResNet18": "cnn-medmnist",
}
WORKERS, TRIALS, NAP = (1, 2, 4, 8), 32, 1.0  # for a search whose trials sleep NAP seconds
WIDTHS = ((8, 16, 32), (16, 32, 64), (16, 64, 128), (32, 128, 256))
SEED_0 = Fold(seed=0, fold=None, train=np.arange(0), held_out=None, scored=False)


def main() -> None:
    """Run all measurements, one after another, and write the results."""
    args = parse_bench(__file__, PRESET_OF.values())
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler logs to the console
    device = choose_device(args.device, args.threads)
    run_folder.prepare(args.output, args.code, script=args.code.script)
    dataset = bloodmnist.load(**data_settings(args))
    keep_freed_memory()
    torch.manual_seed(args.seed)  # for the weights and the random images
    found = {
        "dataset": dataset.describe(),
        "config": settings_of(args),
        "code": args.code.describe(),
        "environment": environment(device.type, args.code),
    }
    found["averaging_seconds"] = all_reduce.seconds_of(PROCESSES)  # first, since it may fail
    print(f"{PROCESSES} processes average gradients in {found['averaging_seconds'] * 1e3:.1f} ms")
    found["peak_gflops"] = {
        name: matrix_product_gflops(name, device, args.repeats) for name in ("float32", "bfloat16")
    }
    for name, gflops in found["peak_gflops"].items():
        print(f"matrix products, {name}: {gflops:,.0f} GFLOP/s")
    found["networks"] = networks(args, device)
    found["dataloader"] = beside_the_dataloader(args, dataset, device, found["networks"])
    found["growth"] = growth(args, device)
    found["search_seconds_by_workers"] = shared_search()
    found["help_seconds"] = start_up(args)
    found["training_memory_mib_by_pixels"] = peak_memory()
    found["mapped_epoch"] = mapped_epoch()

    def fill(folder: Path) -> None:
        for draw, rows in (
            (figures.network_speed, found["networks"]),
            (figures.operators, found["networks"]),
            (figures.growth, found["growth"]),
        ):
            draw(folder / f"{draw.__name__}.{args.figure_format}", rows, warning(args))
        run_folder.write_json(folder / "bench.json", found)

    run_folder.write(args.output, fill, last="bench.json")
    print(f"wrote {args.output}")


def most_images(size: int) -> int:
    """The largest batch: as many pixels as the largest of `BATCHES` at 28 pixels."""
    return max(1, BATCHES[-1] * 28**2 // size**2)


def recipe_of(name: str, device: torch.device, size: int = 28) -> Recipe:
    """The recipe in a network's preset, with smaller batches of larger images."""
    settings = Namespace(precision="auto")
    for key, value in load_preset(PRESETS / f"{PRESET_OF[name]}.toml").items():
        setattr(settings, key.replace("-", "_"), value)
    settings.precision = choose_precision(settings.precision, device)
    recipe = Recipe.of(settings)
    return replace(recipe, batch_size=min(recipe.batch_size, most_images(size)))


def train_and_score(name: str, recipe: Recipe, train: Labelled, held_out: Labelled) -> None:
    """Train and score one model as model_cnn.py does, without a run folder."""
    size = train.images.shape[1]
    args = Namespace(model=name, size=size, widths=None, dropout=None, labels="classes")
    training = set_up(args, recipe, SEED_0, train)
    for _ in range(recipe.epochs):
        train_epoch(*training, recipe)
        score(training[0], held_out, recipe)


def train_small(train: Labelled, recipe: Recipe) -> None:
    """Train the smallest CellNet for an epoch, with a constant learning rate."""
    args = Namespace(model="CellNet", size=28, widths=WIDTHS[0], dropout=None, labels="classes")
    model, batches, optimizers, _ = set_up(args, recipe, SEED_0, train)
    train_epoch(model, batches, optimizers, (), recipe)


def networks(args: Namespace, device: torch.device) -> list[dict]:
    """Each network's FLOP, speed, share of the peak, time by operator, and images per second."""
    rows = []
    for name in PRESET_OF:
        recipe = recipe_of(name, device, args.size)
        network = models.build(name, args.size)
        step = Step(network, recipe.batch_size, args.size, recipe, device, train_epoch)
        row: dict = {"name": name, "batch": recipe.batch_size, "precision": recipe.precision}
        row |= step.speed(args.repeats)
        print(f"{name}, batches of {recipe.batch_size}, {recipe.precision}")
        for part in ("forward", "backward", "step"):
            timed = row[part]
            timed["gflops"] = timed["gflop"] / timed["seconds"]
            timed["share_of_peak"] = timed["gflops"] / row["peak_gflops"]
            print(
                f"  {part:9} {timed['gflop']:7.2f} GFLOP in {timed['seconds'] * 1e3:7.1f} ms: "
                f"{timed['gflops']:6,.0f} GFLOP/s, {timed['share_of_peak']:4.0%} of the peak"
            )
        row["operators"] = step.operators(args.repeats)
        row["operator_gflop"] = step.operator_gflop()
        for op, share in list(row["operators"].items())[:6]:
            took = share * row["step"]["seconds"]
            least = row["operator_gflop"].get(op, 0) / row["peak_gflops"]
            limit = f", at the peak {least * 1e3:.1f} ms" if least else ""
            print(f"  of a step, {op}: {took * 1e3:.1f} ms{limit}")
        batches = [count for count in BATCHES if count <= most_images(args.size)]
        row |= images_per_second(
            network, batches, args.size, recipe, device, train_epoch, args.repeats
        )
        for what in ("trained", "predicted"):
            rates = row[f"{what}_images_per_second"].items()
            listed = ", ".join(f"{batch}: {rate:,.0f}" for batch, rate in rates)
            print(f"  images {what} per second, by batch size: {listed}")
        rows.append(row)
    return rows


def beside_the_dataloader(
    args: Namespace, dataset: Dataset, device: torch.device, speeds: list[dict]
) -> dict:
    """Time the data pipeline and the paper's protocol against PyTorch's DataLoader."""
    train = dataset.train
    split = Split(train.images[:DATALOADER_IMAGES], train.labels[:DATALOADER_IMAGES])
    recipe = recipe_of("CellNet", device, args.size)
    batch = dataloader.compare_batches(split, recipe, device, args.repeats)
    step = next(row["step"]["seconds"] for row in speeds if row["name"] == "CellNet")
    batch["share_of_step"] = batch["our_seconds"] / step
    print(
        "one batch: {dataloader_seconds:.4f} s with the DataLoader, {our_seconds:.4f} s here "
        "(augmented): {ratio:.0f} times as fast, {share_of_step:.1%} of CellNet's step".format(
            **batch
        )
    )
    recipe = recipe_of("ConvNet", device, args.size)
    found = dataloader.compare_protocol(
        train, DATALOADER_IMAGES, recipe, device, args.repeats, train_and_score
    )
    for name in ("Baseline", "ConvNet", "both"):
        print(
            f"the paper's protocol, {name}, {found['images']} images: "
            "{dataloader_seconds:.2f} s with the DataLoader, {our_seconds:.2f} s here: {ratio:.1f} "
            "times as fast".format(**found[name])
        )
    return {"batch": batch, "protocol": found}


def growth(args: Namespace, device: torch.device) -> dict[str, dict]:
    """Seconds of CellNet's training step by pixels and by widths, and of its epoch by images."""
    recipe = recipe_of("CellNet", device)

    def steps(kinds: list[tuple[int, tuple]]) -> list[float]:
        works = []
        for pixels, widths in kinds:
            model = models.CellNet(image_size=pixels, widths=widths)
            works.append(Step(model, recipe.batch_size, pixels, recipe, device, train_epoch).step)
        return seconds_in_turn(works, device, args.repeats, limit=15.0)

    def epoch(count: int) -> float:
        images = torch.randint(256, (count, 28, 28, 3), dtype=torch.uint8, device=device)
        labels = torch.randint(len(bloodmnist.CLASS_NAMES), (count,), device=device)
        train = Labelled(images, labels)
        return seconds(partial(train_small, train, recipe), device, args.repeats)

    by_pixels = steps([(pixels, WIDTHS[0]) for pixels in PIXELS])
    by_widths = steps([(28, widths) for widths in WIDTHS])
    names = ["-".join(map(str, widths)) for widths in WIDTHS]
    found: dict[str, dict] = {
        "seconds_an_epoch_by_images": {count: epoch(count) for count in IMAGES},
        "seconds_a_step_by_pixels": dict(zip(PIXELS, by_pixels, strict=True)),
        "seconds_a_step_by_widths": dict(zip(names, by_widths, strict=True)),
    }
    for name, times in found.items():
        listed = ", ".join(f"{what}: {value:.3f}" for what, value in times.items())
        print(f"CellNet, {name.replace('_', ' ')}: {listed}")
    return found


def start_up(args: Namespace) -> dict[str, float]:
    """Seconds that each script takes to answer `--help`."""
    found = {}
    for script in filter(committed_code, SCRIPTS):  # a user's own may not know --help
        times = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            command = [sys.executable, str(ROOT / script), "--help"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        found[script] = statistics.median(times)
    listed = ", ".join(f"{script} {value:.2f} s" for script, value in found.items())
    print(f"time to answer --help: {listed}")
    return found


def shared_search() -> dict[int, float]:
    """Seconds of a search by number of workers; its trials sleep and use no processor time."""
    found = {workers: search_scaling.wall_seconds(workers, TRIALS, NAP) for workers in WORKERS}
    listed = ", ".join(f"{workers}: {value:.1f} s" for workers, value in found.items())
    print(f"a search of {TRIALS} trials that sleep {NAP:g} s, by number of workers: {listed}")
    return found


def peak_memory() -> dict[int, int | None]:
    """Peak memory of training on the CPU, in MiB, by image size; None where it is unknown."""
    recipe = replace(recipe_of("CellNet", torch.device("cpu")), epochs=2)
    found = {size: memory.of_training(size, recipe, train_and_score) for size in PIXELS}
    listed = ", ".join(f"{size} px: {mib or 'unknown here'} MiB" for size, mib in found.items())
    print(f"peak memory of training CellNet, with the whole data set loaded: {listed}")
    return found


def mapped_epoch() -> dict:
    """Seconds and memory of an epoch over more images than one would load, on the CPU."""
    recipe = recipe_of("CellNet", torch.device("cpu"))
    found = memory.of_a_mapped_epoch(MAPPED, recipe, train_small)
    print(
        f"an epoch of CellNet over {MAPPED:,} mapped images: {found['seconds']:.0f} s, "
        f"{found['mib_above_the_array'] or 'unknown'} MiB above the array's"
    )
    return found


if __name__ == "__main__":
    run_script(main)
