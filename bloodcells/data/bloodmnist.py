"""BloodMNIST in memory: load, choose images, normalise.

Yang et al., "MedMNIST v2", Scientific Data 2023, made from the images of Acevedo et al., Data in
Brief 2020, CC BY 4.0. Eight classes of blood cell, one cell in the middle of each RGB image. The
photographs' file names tell eleven stages of maturation, which --labels stages uses as classes.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast, overload

import numpy as np
import torch
from torch import Tensor

from bloodcells.data import download, synthetic_cells
from bloodcells.data import photographs as source_photographs
from bloodcells.data.photographs import CLASS_OF, STAGES
from bloodcells.errors import UserError

CLASS_NAMES = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature granulocyte",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)
LABELS = {"classes": CLASS_NAMES, "stages": STAGES}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, size, size, 3), and labels, int64 (N,): positions in `names`, from 0."""

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...] = CLASS_NAMES

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self) -> np.ndarray:
        """The number of images in each class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.names))

    def of_class(self, label: int) -> np.ndarray:
        """The images of one class."""
        return self.images[self.labels == label]

    def sample(self, count: int, seed: int) -> Split:
        """A stratified random sample of at most `count` images, in their original order."""
        order = np.random.default_rng(seed).permutation(len(self))
        place = np.empty(len(self))  # of an image in a random order of its class, 0 to 1
        for label, size in enumerate(self.class_counts()):
            place[order[self.labels[order] == label]] = (np.arange(size) + 0.5) / size
        rows = np.sort(order[np.argsort(place[order], kind="stable")[:count]])
        return self.rows(rows)

    def rows(self, rows: np.ndarray) -> Split:
        """The images of some rows, int64 (n,)."""
        return Split(self.images[rows], self.labels[rows], self.names)


@dataclass(frozen=True)
class Dataset:
    """The three official splits, or generated ones in their place."""

    train: Split
    val: Split
    test: Split
    size: int
    source: str
    md5: str | None
    synthetic: bool
    name: str = "BloodMNIST"
    left_out: dict[str, int] | None = None  # images without a stage, by split

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes (or stages), in the order of the labels."""
        return self.train.names

    def splits(self) -> dict[str, Split]:
        """The splits by name, in the order of `SPLITS`."""
        return {name: getattr(self, name) for name in SPLITS}

    def count_table(self) -> list[list]:
        """Image counts by class and split, as table rows: a header, the classes, the totals."""
        columns = [split.class_counts() for split in self.splits().values()]
        columns.append(cast(np.ndarray, sum(columns)))
        rows = zip(self.classes, *columns, strict=True)
        totals = [column.sum() for column in columns]
        return [["class", *SPLITS, "all"], *map(list, rows), ["all classes", *totals]]

    def describe(self) -> dict:
        """The `dataset` entry of `metrics.json`."""
        return {
            "name": self.name,
            "size": self.size,
            "md5": self.md5,
            "synthetic": self.synthetic,
            "counts": {name: len(split) for name, split in self.splits().items()},
            **({} if self.left_out is None else {"without_stage": self.left_out}),
        }


class Pool:
    """Several splits as one; `labels` is int64 (N,)."""

    def __init__(self, *splits: Split):
        self.splits, self.names = splits, splits[0].names
        self.labels = np.concatenate([split.labels for split in splits])

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Labelled:
        """The images and labels on `device`; on the CPU, the images are not copied."""
        parts = [cast(Tensor, to_device(split, device).images) for split in self.splits]
        if device.type != "cpu":  # to take rows of several parts, a GPU would wait for each batch
            parts = [torch.cat(parts)]
        return Labelled(Images(parts), torch.from_numpy(self.labels).to(device))


class Labelled(NamedTuple):
    """Images, uint8 (N, H, W, 3), and their labels, on one device.

    Labels are int64 (N,), or shares of the classes, float32 (N, classes).
    """

    images: Tensor | Images
    labels: Tensor

    @overload
    def choose(self, rows: np.ndarray) -> Labelled: ...
    @overload
    def choose(self, rows: np.ndarray | None) -> Labelled | None: ...
    def choose(self, rows: np.ndarray | None) -> Labelled | None:
        """The given rows of a pool's images and labels; None if `rows` is None."""
        if rows is None:
            return None
        chosen = torch.from_numpy(rows)
        return Labelled(cast(Images, self.images).choose(chosen), self.labels[chosen])


class Images:
    """Rows of several image tensors, uint8 (N, H, W, 3), copied only when they are indexed.

    At 224 pixels the data set takes 2.6 GB, so no image should be held twice. Index with a slice or
    a tensor of rows, like the first axis of a tensor.
    """

    def __init__(self, parts: Sequence[Tensor], rows: Tensor | None = None):
        """`rows`, int64 (N,), number the images of all parts in order; None selects all."""
        self.parts, self.device = parts, parts[0].device
        ends = list(itertools.accumulate(map(len, parts)))
        self.bounds = list(zip([0, *ends], ends, strict=False))
        self.rows = torch.arange(ends[-1], device=self.device) if rows is None else rows
        self.shape = torch.Size([len(self.rows), *parts[0].shape[1:]])

    def __len__(self) -> int:
        return len(self.rows)

    def choose(self, rows: Tensor) -> Images:
        """The chosen ones of these rows; keeps a single part if they all lie in one."""
        rows = self.rows[rows.to(self.device)]
        for part, (begin, end) in zip(self.parts, self.bounds, strict=True):
            if ((rows >= begin) & (rows < end)).all():
                return Images([part], rows - begin)
        return Images(self.parts, rows)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = self.rows[index]
        if len(self.parts) == 1:
            return self.parts[0][rows]
        found = self.parts[0].new_empty(len(rows), *self.shape[1:])
        for part, (begin, end) in zip(self.parts, self.bounds, strict=True):
            here = (rows >= begin) & (rows < end)
            found[here] = part[rows[here] - begin]
        return found


def load(
    data_root: Path | None = None,
    size: int = 28,
    synthetic: bool = False,
    labels: str = "classes",
    photographs: Path | None = None,
    jpeg: bool = True,
) -> Dataset:
    """Load the images of `size` pixels, downloading the file if this machine has no copy.

    `labels` is "classes" or "stages"; with "stages", images whose stage is not known are left out.
    `photographs` is the folder of the original collection: then the images are made anew from it,
    with the official images' compression if `jpeg`. Raises `UserError` if a file is wrong or cannot
    be obtained.
    """
    if synthetic:
        splits = {name: Split(*arrays) for name, arrays in synthetic_cells.make(size).items()}
        name, source, md5 = "synthetic cells", "generated images, not real cells", None
    elif photographs is not None:
        splits = from_photographs(photographs, size, jpeg)
        name = "BloodMNIST from photographs" + ("" if jpeg else ", without JPEG")
        source, md5 = f"photographs in {photographs}", md5_of(splits)
    else:
        path, origin = download.find_or_download(data_root, size)
        splits = {name: read_split(path, name, size) for name in SPLITS}
        name, source = "BloodMNIST", f"{path} ({origin}, MD5 verified)"
        md5 = download.official("MD5", size)
    left_out = None
    if labels == "stages":
        whole, splits = splits, with_stages(splits, synthetic)
        left_out = {part: len(whole[part]) - len(splits[part]) for part in SPLITS}
    train, val, test = (splits[part] for part in SPLITS)
    return Dataset(train, val, test, size, source, md5, synthetic, name, left_out)


def from_photographs(folder: Path, size: int, jpeg: bool) -> dict[str, Split]:
    """The official splits made anew from the photographs. Raises `UserError`."""
    images, table = source_photographs.rebuild(folder, size, jpeg), source_photographs.read_table()
    labels = {
        name: np.array([CLASS_NAMES.index(CLASS_OF[one.stage]) for one in table[name]])
        for name in SPLITS
    }
    return {name: Split(images[name], labels[name]) for name in SPLITS}


def md5_of(splits: dict[str, Split]) -> str:
    """The MD5 of all pixels."""
    digest = hashlib.md5(usedforsecurity=False)
    for split in splits.values():
        digest.update(split.images.tobytes())
    return digest.hexdigest()


def with_stages(splits: dict[str, Split], synthetic: bool) -> dict[str, Split]:
    """The images whose stage is known, labelled with it."""
    table = {} if synthetic else source_photographs.read_table()
    found = {}
    for name, split in splits.items():
        stages = [one.stage for one in table[name]] if table else pretended(split.labels)
        labels = np.array([STAGES.index(stage) if stage in STAGES else -1 for stage in stages])
        known = np.flatnonzero(labels >= 0)
        found[name] = Split(split.images[known], labels[known], STAGES)
    return found


def pretended(labels: np.ndarray) -> list[str]:
    """Stages for generated images, which show none: those of the class in turn."""
    of_class = [[stage for stage in STAGES if CLASS_OF[stage] == name] for name in CLASS_NAMES]
    return [of_class[label][n % len(of_class[label])] for n, label in enumerate(labels)]


def read_split(path: Path, name: str, size: int) -> Split:
    """Read one split of a verified file, with medmnist."""
    import medmnist

    split = medmnist.BloodMNIST(split=name, root=str(path.parent), size=size)
    return checked_split(path, split.imgs, split.labels, size)


def checked_split(path: Path, images: np.ndarray, labels: np.ndarray, size: int) -> Split:
    """Make a `Split` of medmnist's arrays, labels (N, 1). Raises `UserError` if they are wrong."""
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise UserError(f"{path}: images are {images.dtype} {images.shape}, not {size} px RGB")
    if labels.shape != (len(images), 1):
        raise UserError(f"{path}: {len(images)} images but labels of shape {labels.shape}")
    labels = labels[:, 0].astype(np.int64)
    if not np.isin(labels, range(len(CLASS_NAMES))).all():
        raise UserError(f"{path}: a label is outside 0..{len(CLASS_NAMES) - 1}")
    return Split(images, labels)


def to_device(split: Split, device: torch.device) -> Labelled:
    """A split as tensors on `device`."""
    images, labels = map(torch.from_numpy, (split.images, split.labels))
    return Labelled(images.to(device), labels.to(device))


def normalise(images: Tensor) -> Tensor:
    """Normalise uint8 (N, H, W, 3) to float32 (N, 3, H, W) in -1..1: mean 0.5, std 0.5 on 0..1.

    The result keeps the memory order of the pixels (`channels_last`), the fastest for convolutions.
    Raises `TypeError` for images that are not uint8, such as normalised ones.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images are {images.dtype}: only uint8 ones are normalised")
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
