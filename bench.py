"""Measure this machine and how near to its limit training and prediction come.

    python bench.py                  # everything, a few minutes; writes plots/bench/bench.json
    python bench.py --repeats 3      # quicker and rougher

Prints the matrix-product peak, each network's operations and speed as a share of that peak, images
a second by batch size, and the paper's training against the usual way (a PIL image and
torchvision.transforms an image, a DataLoader without workers). Ratios are medians of pairs measured
in turn, so that a machine whose speed drifts does not bend them. Run it with nothing else running.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import statistics
import time
from collections.abc import Callable

from command_line import make_parser, parse, run_script, whole_number

IMAGES = 2560  # trained on in the comparison with the usual way
BATCH = 128


def main() -> None:
    parser = make_parser(__doc__, preset="bench")
    parser.add_argument(
        "--repeats", type=whole_number(1, 1000), default=7, help="measurements of each figure"
    )
    args = parse(parser)

    import bloodmnist
    import models
    import run_folder
    import training

    device = training.choose_device(args.device)
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    training.keep_freed_memory()
    precision = training.choose_precision("auto", device)
    found = {
        "dataset": dataset.describe(),
        "environment": run_folder.environment(device.type),
        "peak_gflops": {
            name: matrix_product_peak(name, device, args.repeats)
            for name in dict.fromkeys(["float32", precision])
        },
    }
    for name, gflops in found["peak_gflops"].items():
        print(f"matrix products, {name}: {gflops:,.0f} GFLOP/s")
    found["networks"] = [
        network_speed(
            cls(image_size=args.size),
            dataset,
            device,
            precision if cls is models.CellNet else "float32",  # as their presets train them
            args.repeats,
        )
        for cls in models.MODELS.values()
    ]
    print_networks(found["networks"], found["peak_gflops"])
    found["usual_way"] = against_the_usual_way(dataset, device, args.repeats)
    print(
        "the paper's CNN, one pass over {images} images: {usual_seconds:.2f} s the usual way, "
        "{our_seconds:.2f} s here, {ratio:.1f} times as fast".format(**found["usual_way"])
    )
    run_folder.write(
        args.output,
        lambda folder: run_folder.write_json(folder / "bench.json", found),
        last="bench.json",
    )
    print(f"wrote {args.output}")


def seconds(work: Callable[[], object], device, repeats: int) -> float:
    """Median wall time of `work` after two calls to warm up."""
    import torch

    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        work()
        if device.type != "cpu":  # which returns before the work is done
            getattr(torch, device.type).synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def matrix_product_peak(precision: str, device, repeats: int) -> float:
    """GFLOP/s of square matrix products."""
    import torch

    side = 8192 if device.type == "cuda" else 1536
    left, right = (
        torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2)
    )
    return 2 * side**3 / seconds(lambda: left @ right, device, repeats) / 1e9


def network_speed(model, dataset, device, precision: str, repeats: int) -> dict:
    """A network's operations and times a training step of `BATCH` images, and images a second."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import bloodmnist
    import training

    model = model.to(device, memory_format=torch.channels_last)
    raw, labels = bloodmnist.to_device(dataset.train, device)
    images = bloodmnist.normalise(raw[:BATCH])
    labels = labels[: len(images)]
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def forward() -> torch.Tensor:
        with training.autocast(device, precision):
            return torch.nn.functional.cross_entropy(model(images).float(), labels)

    def step() -> None:
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    by_batch = {}
    for batch in (1, 8, 32, 128, 512):
        part = raw[:batch]
        once = seconds(
            lambda p=part: training.predict(model, p, 1, precision, len(p)), device, repeats
        )
        by_batch[len(part)] = len(part) / once
    model.train()
    return {
        "name": type(model).__name__,
        "precision": precision,
        "batch_size": len(images),
        "step_gflop": counter.get_total_flops() / 1e9,
        "forward_seconds": seconds(forward, device, repeats),
        "step_seconds": seconds(step, device, repeats),
        "predicted_images_per_second": by_batch,
    }


def print_networks(networks: list[dict], peaks: dict[str, float]) -> None:
    for row in networks:
        speed = row["step_gflop"] / row["step_seconds"]
        row["step_gflops"], row["share_of_peak"] = speed, speed / peaks[row["precision"]]
        row["trained_images_per_second"] = row["batch_size"] / row["step_seconds"]
        rates = ", ".join(f"{n}: {v:,.0f}" for n, v in row["predicted_images_per_second"].items())
        print(
            f"{row['name']}, batch {row['batch_size']}, {row['precision']}: "
            f"{row['step_gflop']:.2f} GFLOP a training step, {row['step_seconds'] * 1e3:.1f} ms "
            f"(forward {row['forward_seconds'] * 1e3:.1f}), {speed:,.0f} GFLOP/s, "
            f"{row['share_of_peak']:.0%} of the peak, {row['trained_images_per_second']:,.0f} "
            f"images/s\n  predicted images a second by batch size: {rates}"
        )


def against_the_usual_way(dataset, device, repeats: int) -> dict:
    """One epoch of the paper's CNN on `IMAGES` images, the usual way and ours, in turn."""
    import torch

    import bloodmnist
    import models
    import training
    from augmentation import Batches
    from optimization import Optimization
    from recipe import Recipe

    recipe = Recipe(epochs=1, batch_size=BATCH, lr=1e-3)
    train = bloodmnist.Split(dataset.train.images[:IMAGES], dataset.train.labels[:IMAGES])
    tensors = bloodmnist.to_device(train, device)
    ours = models.ConvNet(image_size=dataset.size).to(device, memory_format=torch.channels_last)
    batches = Batches(*tensors, recipe, torch.Generator().manual_seed(0))
    optimization = Optimization(ours, recipe, steps=10**6)
    # in a process of its own, whose memory is managed as usual too
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as usual:
        pairs = []
        for _ in range(repeats + 1):
            usual_seconds = usual.submit(usual_epoch, train, device.type).result()
            start = time.perf_counter()
            training.train_epoch(ours, batches, optimization, recipe)
            pairs.append((usual_seconds, time.perf_counter() - start))
    pairs = pairs[1:]  # the first warms up
    return {
        "images": len(train),
        "usual_seconds": statistics.median(usual for usual, _ in pairs),
        "our_seconds": statistics.median(our for _, our in pairs),
        "ratio": statistics.median(usual / our for usual, our in pairs),
    }


def usual_epoch(train, device: str) -> float:
    """Seconds of an epoch as it is commonly written: PIL, transforms, DataLoader, plain layers."""
    import torch
    from PIL import Image
    from torch import nn
    from torchvision import transforms

    class Images(torch.utils.data.Dataset):
        transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
        )

        def __len__(self) -> int:
            return len(train)

        def __getitem__(self, index: int):
            return self.transform(Image.fromarray(train.images[index])), train.labels[index]

    side = (train.images.shape[1] - 1) // 2 - 1
    model = nn.Sequential(
        *(nn.Conv2d(3, 64, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Conv2d(64, 64, 2), nn.ReLU(), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(64 * side**2, 64), nn.Dropout(0.25), nn.Linear(64, 8)),
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(Images(), batch_size=BATCH, shuffle=True)

    start = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        logits = model(images.to(device))
        nn.functional.cross_entropy(logits, labels.to(device)).backward()
        optimizer.step()
    next(model.parameters()).sum().item()  # wait for the device
    return time.perf_counter() - start


if __name__ == "__main__":
    run_script(main)
