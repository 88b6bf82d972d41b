"""The paper's two models as they are usually written, to compare our speed with.

Images go through PIL and `torchvision.transforms` one at a time, a `DataLoader` without workers
makes the batches, and the layers are torch's own in their usual order. Only `bench.py` uses this.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bloodcells.benchmarks.timing import process_of_its_own
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Labelled, Split
from bloodcells.training.augmentation import Batches


class Images(Dataset):
    """The split's images, one at a time, as most projects load them."""

    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    )

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.split.images[index])), self.split.labels[index]


def network(name: str, side: int) -> nn.Module:
    """Either "Baseline" or "ConvNet", for images of `side` pixels."""
    classes = len(bloodmnist.CLASS_NAMES)
    if name == "Baseline":
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * side**2, classes))
    pooled = (side - 1) // 2 - 1
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Conv2d(64, 64, 2), nn.ReLU(), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(64 * pooled**2, 64), nn.Dropout(0.25), nn.Linear(64, classes)),
    )


def train_and_predict(
    name: str, train: Split, held_out: Split, batch_size: int, device: str
) -> float:
    """Seconds to train for one epoch on `train` and predict `held_out`."""
    start = time.perf_counter()
    model = network(name, train.images.shape[1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for images, labels in DataLoader(Images(train), batch_size=batch_size, shuffle=True):
        optimizer.zero_grad()
        logits = model(images.to(device))
        nn.functional.cross_entropy(logits, labels.to(device)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for images, _ in DataLoader(Images(held_out), batch_size=batch_size):
            model(images.to(device)).softmax(1).cpu()
    return time.perf_counter() - start


def batches(split: Split, batch_size: int) -> float:
    """Seconds per batch of the `DataLoader` alone."""
    start = time.perf_counter()
    loader = DataLoader(Images(split), batch_size=batch_size, shuffle=True)
    for _ in loader:
        pass
    return (time.perf_counter() - start) / len(loader)


def compare_batches(split: Split, recipe: Recipe, device: torch.device, repeats: int) -> dict:
    """Seconds per batch of a `DataLoader`, and of our `Batches` with the recipe's augmentation."""
    generator = torch.Generator().manual_seed(0)
    recipe = replace(recipe, focus=0.0)  # no losses to choose by
    ours = Batches(*bloodmnist.to_device(split, device), recipe, generator)

    def our_seconds() -> float:
        start = time.perf_counter()
        for images, _ in ours:
            images.sum().item()  # wait for the device
        return (time.perf_counter() - start) / len(ours)

    pairs = [(batches(split, recipe.batch_size), our_seconds()) for _ in range(repeats + 1)]
    return ratio(pairs[1:])  # the first pair is a warm-up


def compare_protocol(
    pool: Split,
    images: int,
    recipe: Recipe,
    device: torch.device,
    repeats: int,
    train_ours: Callable[[str, Recipe, Labelled, Labelled], object],
) -> dict:
    """Time the paper's protocol on fewer images, with a `DataLoader` and our way in turn.

    As in the protocol, 4 training images of an epoch go with 1 held-out image and 1/4 test image.
    `train_ours` takes a network's name, the recipe, and the images to train on and to score.
    """
    recipe = replace(recipe, epochs=1)
    images = min(images, len(pool) * 16 // 21)
    train = Split(pool.images[:images], pool.labels[:images])
    rest = slice(images, images + images * 5 // 16)
    held_out = Split(pool.images[rest], pool.labels[rest])
    tensors = [bloodmnist.to_device(split, device) for split in (train, held_out)]

    def our_seconds(name: str) -> float:
        start = time.perf_counter()
        train_ours(name, recipe, *tensors)
        return time.perf_counter() - start

    with process_of_its_own() as process:  # so that its memory is managed as usual too

        def dataloader_seconds(name: str) -> float:
            arguments = name, train, held_out, recipe.batch_size, device.type
            return process.submit(train_and_predict, *arguments).result()

        pairs = {
            name: [(dataloader_seconds(name), our_seconds(name)) for _ in range(repeats + 1)][1:]
            for name in ("Baseline", "ConvNet")
        }
    both = zip(pairs["Baseline"], pairs["ConvNet"], strict=True)
    pairs["both"] = [(b[0] + c[0], b[1] + c[1]) for b, c in both]
    return {"images": images, **{name: ratio(measured) for name, measured in pairs.items()}}


def ratio(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Medians of a `DataLoader`'s seconds, of ours, and of their ratios, from pairs of the two."""
    return {
        "dataloader_seconds": statistics.median(theirs for theirs, _ in pairs),
        "our_seconds": statistics.median(ours for _, ours in pairs),
        "ratio": statistics.median(theirs / ours for theirs, ours in pairs),
    }
