"""Measure this machine and how near to its limit training and prediction come.

    python bench.py                  # all, 15 minutes on two cores; writes plots/bench/
    python bench.py --repeats 3      # quicker and rougher

Prints the matrix-product peak, each network's speed as a share of it, where a training step's time
goes, images a second by batch size, the data pipeline and the paper's protocol beside the usual way
of writing them (without loader workers), how time grows, how a shared search speeds up with its
workers, and each script's start-up time. What is compared, such as a network's passes and the peak,
is measured in turn, so that a machine whose speed drifts bends it little. Run it alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from bloodcells.cli.arguments import (
    PRESETS,
    ROOT,
    load_preset,
    make_parser,
    parse,
    run_script,
    warning,
    whole_number,
)

SCRIPTS = (
    *("data_visualization.py", "model_baseline.py", "model_cnn.py", "ablation.py"),
    *("model_parameter_tuning.py", "model_release.py", "predict.py", "robustness.py"),
    *("explain.py", "architecture.py", "report.py"),
)
BATCHES = (1, 8, 32, 64, 128, 512)
USUAL_IMAGES = 2560  # trained on in the comparisons with the usual way
IMAGES = (1_000, 10_000, 100_000)
PIXELS = (28, 64, 128, 224)
PRESET_OF = {
    "Baseline": "baseline",
    "ConvNet": "cnn-paper",
    "CellNet": "cnn-best",
    "ResNet18": "cnn-medmnist",
}
WORKERS, TRIALS, NAP = (1, 2, 4, 8), 32, 1.0  # of a search whose trials sleep so many seconds
WIDTHS = ((8, 16, 32), (16, 32, 64), (16, 64, 128), (32, 128, 256))


def main() -> None:
    parser = make_parser(__doc__, preset="bench")
    parser.add_argument(
        "--repeats", type=whole_number(1, 1000), default=7, help="measurements of each figure"
    )
    args = parse(parser)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks of itself otherwise

    import torch

    from bloodcells.benchmarks.timing import matrix_product_gflops
    from bloodcells.data import bloodmnist
    from bloodcells.reporting import results
    from bloodcells.reporting.figures import studies as study_figures
    from bloodcells.tracking import run_folder
    from bloodcells.training import loop

    device = loop.choose_device(args.device)
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    loop.keep_freed_memory()
    torch.manual_seed(args.seed)  # of the weights, and of the images that are not real
    found = {
        "dataset": dataset.describe(),
        "config": results.config(args),
        "environment": run_folder.environment(device.type),
    }

    found["peak_gflops"] = {
        name: matrix_product_gflops(name, device, args.repeats) for name in ("float32", "bfloat16")
    }
    for name, gflops in found["peak_gflops"].items():
        print(f"matrix products, {name}: {gflops:,.0f} GFLOP/s")
    found["networks"] = networks(args, device)
    found["usual_way"] = beside_the_usual_way(args, dataset, device, found["networks"])
    found["growth"] = growth(args, device)
    found["search_seconds_by_workers"] = shared_search()
    found["help_seconds"] = start_up(args)
    found["training_memory_mib_by_pixels"] = peak_memory()

    def fill(folder: Path) -> None:
        for draw, rows in (
            (study_figures.network_speed, found["networks"]),
            (study_figures.operators, found["networks"]),
            (study_figures.growth, found["growth"]),
        ):
            draw(folder / f"{draw.__name__}.{args.figure_format}", rows, warning(args))
        run_folder.write_json(folder / "bench.json", found)

    run_folder.write(args.output, fill, last="bench.json")
    print(f"wrote {args.output}")


def recipe(name: str, device):
    """The recipe that a network's preset trains it with."""
    from bloodcells.cli.recipe import Recipe
    from bloodcells.training import loop

    settings = argparse.Namespace(precision="auto")
    for key, value in load_preset(PRESETS / f"{PRESET_OF[name]}.toml").items():
        setattr(settings, key.replace("-", "_"), value)
    settings.precision = loop.choose_precision(settings.precision, device)
    return Recipe.of(settings)


def networks(args: argparse.Namespace, device) -> list[dict]:
    """Each network's operations, speed, share of the peak, operators, and images a second."""
    import models
    from bloodcells.benchmarks.timing import Step

    rows = []
    for name in PRESET_OF:
        settings = recipe(name, device)
        network = models.build(name, args.size)
        step = Step(network, settings.batch_size, args.size, settings, device)
        row = {"name": name, "batch": settings.batch_size, "precision": settings.precision}
        row |= step.speed(args.repeats)
        print(f"{name}, batches of {settings.batch_size}, {settings.precision}")
        for part in ("forward", "backward", "step"):
            timed = row[part]
            timed["gflops"] = timed["gflop"] / timed["seconds"]
            timed["share_of_peak"] = timed["gflops"] / row["peak_gflops"]
            print(
                f"  {part:9} {timed['gflop']:7.2f} GFLOP in {timed['seconds'] * 1e3:7.1f} ms: "
                f"{timed['gflops']:6,.0f} GFLOP/s, {timed['share_of_peak']:4.0%} of the peak"
            )
        row["operators"] = step.operators(args.repeats)
        largest = [f"{op} {share:.0%}" for op, share in list(row["operators"].items())[:5]]
        print(f"  the step's time goes to {', '.join(largest)}")
        row |= images_per_second(network, args, settings, device)
        for what in ("trained", "predicted"):
            rates = row[f"{what}_images_per_second"].items()
            listed = ", ".join(f"{batch}: {rate:,.0f}" for batch, rate in rates)
            print(f"  images {what} a second by batch size: {listed}")
        rows.append(row)
    return rows


def images_per_second(model, args: argparse.Namespace, settings, device) -> dict[str, dict]:
    """How many a network is trained on, and predicts, by the size of the batch."""
    import torch

    from bloodcells.benchmarks.timing import Step, seconds
    from bloodcells.training import loop

    trained, predicted = {}, {}
    for batch in BATCHES:
        step = Step(model, batch, args.size, settings, device)
        trained[batch] = batch / seconds(step.step, device, args.repeats)
        raw = torch.zeros(batch, args.size, args.size, 3, dtype=torch.uint8, device=device)
        predict = partial(loop.predict, step.model, raw, 1, settings.precision, batch)
        predicted[batch] = batch / seconds(predict, device, args.repeats)
    return {"trained_images_per_second": trained, "predicted_images_per_second": predicted}


def beside_the_usual_way(args: argparse.Namespace, dataset, device, networks: list) -> dict:
    """The data pipeline and the paper's protocol beside the usual way of writing them."""
    from bloodcells.benchmarks import dataloader
    from bloodcells.data import bloodmnist

    train = dataset.train
    split = bloodmnist.Split(train.images[:USUAL_IMAGES], train.labels[:USUAL_IMAGES])
    batch = dataloader.compare_batches(split, recipe("CellNet", device), device, args.repeats)
    step = next(row["step"]["seconds"] for row in networks if row["name"] == "CellNet")
    batch["share_of_step"] = batch["our_seconds"] / step
    print(
        "a batch: {usual_seconds:.4f} s the usual way, {our_seconds:.4f} s here (augmented), "
        "{ratio:.0f} times as fast, {share_of_step:.1%} of CellNet's step".format(**batch)
    )
    settings = recipe("ConvNet", device)
    found = dataloader.compare_protocol(train, USUAL_IMAGES, settings, device, args.repeats)
    for name in ("Baseline", "ConvNet", "both"):
        print(
            f"the paper's protocol, {name}, {found['images']} images: "
            "{usual_seconds:.2f} s the usual way, {our_seconds:.2f} s here, {ratio:.1f} times as "
            "fast".format(**found[name])
        )
    return {"batch": batch, "protocol": found}


def growth(args: argparse.Namespace, device) -> dict[str, dict]:
    """How a training step of CellNet grows with pixels and width, and an epoch with images."""
    import torch

    import models
    from bloodcells.benchmarks.timing import Step, seconds, seconds_in_turn
    from bloodcells.training import loop
    from bloodcells.training.augmentation import Batches
    from bloodcells.training.optim import Optimization

    settings = recipe("CellNet", device)
    small = WIDTHS[0]

    def steps(kinds: list[tuple[int, tuple]]) -> list[float]:
        works = []
        for pixels, widths in kinds:
            model = models.CellNet(image_size=pixels, widths=widths)
            works.append(Step(model, settings.batch_size, pixels, settings, device).step)
        return seconds_in_turn(works, device, args.repeats, limit=15.0)

    def epoch(count: int) -> float:
        images = torch.randint(256, (count, 28, 28, 3), dtype=torch.uint8, device=device)
        labels = torch.randint(8, (count,), device=device)
        generator = torch.Generator().manual_seed(0)
        model = models.CellNet(widths=small).to(device, memory_format=torch.channels_last)
        batches = Batches(images, labels, settings, generator)
        optimization = Optimization(model, settings, 10**9)

        def train() -> None:
            loop.train_epoch(model, batches, optimization, settings)

        return seconds(train, device, args.repeats)

    by_pixels = steps([(pixels, small) for pixels in PIXELS])
    by_widths = steps([(28, widths) for widths in WIDTHS])
    names = ["-".join(map(str, widths)) for widths in WIDTHS]
    found = {
        "seconds_an_epoch_by_images": {count: epoch(count) for count in IMAGES},
        "seconds_a_step_by_pixels": dict(zip(PIXELS, by_pixels, strict=True)),
        "seconds_a_step_by_widths": dict(zip(names, by_widths, strict=True)),
    }
    for name, times in found.items():
        listed = ", ".join(f"{what}: {value:.3f}" for what, value in times.items())
        print(f"CellNet, {name.replace('_', ' ')}: {listed}")
    return found


def start_up(args: argparse.Namespace) -> dict[str, float]:
    """Seconds until each script has answered `--help`."""
    found = {}
    for script in SCRIPTS:
        times = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            command = [sys.executable, str(ROOT / script), "--help"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        found[script] = statistics.median(times)
    listed = ", ".join(f"{script} {value:.2f} s" for script, value in found.items())
    print(f"--help answers after: {listed}")
    return found


def shared_search() -> dict[int, float]:
    """Seconds of a search by its number of workers, where a trial takes no processor."""
    from bloodcells.benchmarks import search_scaling

    found = {workers: search_scaling.wall_seconds(workers, TRIALS, NAP) for workers in WORKERS}
    listed = ", ".join(f"{workers}: {value:.1f} s" for workers, value in found.items())
    print(f"a search of {TRIALS} trials that sleep {NAP:g} s, by number of workers: {listed}")
    return found


def peak_memory() -> dict[int, int | None]:
    """MiB that a training on the CPU takes at most, by the size of the images."""
    import torch

    from bloodcells.benchmarks import memory

    settings = replace(recipe("CellNet", torch.device("cpu")), epochs=2)
    found = {size: memory.of_training(size, settings) for size in PIXELS}
    listed = ", ".join(f"{size} px: {mib or 'unknown here'} MiB" for size, mib in found.items())
    print(f"memory of training CellNet, the whole data set loaded: {listed}")
    return found


if __name__ == "__main__":
    run_script(main)
