"""Duplicate images in a data set: exact, and near under the eight rotations and reflections."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from bloodcells.data.bloodmnist import Dataset

TRANSFORMS = [  # of a pair's first image, by the number that `turn` takes
    f"{mirror}rotated {angle}" for mirror in ("", "mirrored, ") for angle in (0, 90, 180, 270)
]
BLOCK = 256  # images compared with all others at once: the distances stay in the cache


def audit(dataset: Dataset, threshold: float) -> dict:
    """The content of `audit.json`.

    Near duplicates are pairs whose root-mean-square difference, in grey levels over pixels and
    channels, is at most `threshold` under the best of the eight rotations and reflections. Exact
    duplicates are not repeated among them.
    """
    splits = dataset.splits()
    images = np.concatenate([split.images for split in splits.values()])
    records = [
        {"split": name, "index": index, "label": int(label)}
        for name, split in splits.items()
        for index, label in enumerate(split.labels)
    ]
    exact = [[records[i] for i in group] for group in exact_groups(images)]
    near: list[dict] = [
        {
            "rms_difference": round(rms, 3),
            "transform": TRANSFORMS[transform],
            "images": [records[i], records[j]],
        }
        for i, j, transform, rms in near_pairs(images, threshold)
    ]
    return {
        "dataset": dataset.describe(),
        "exact_duplicate_groups": exact,
        "conflicting_groups": [group for group in exact if differ(group, "label")],
        "near_duplicate_measure": "root-mean-square difference in grey levels under the best of "
        f"eight rotations and reflections, at most {threshold:g}",
        "near_duplicate_pairs": near,
        "summary": {
            "exact_duplicate_groups": len(exact),
            "exact_duplicate_groups_across_splits": sum(differ(g, "split") for g in exact),
            "conflicting_groups": sum(differ(group, "label") for group in exact),
            "near_duplicate_pairs": len(near),
            "near_duplicate_pairs_across_splits": sum(differ(p["images"], "split") for p in near),
            "near_duplicate_pairs_conflicting": sum(differ(p["images"], "label") for p in near),
            "test_images_with_a_twin_elsewhere": len(test_twins(exact, near)),
        },
    }


def differ(group: list[dict], key: str) -> bool:
    """Whether the records of a group disagree on `key`."""
    return len({record[key] for record in group}) > 1


def test_twins(exact: list[list[dict]], near: list[dict]) -> set[int]:
    """Indices of test images with an exact or near duplicate in training or validation."""
    groups = [*exact, *(pair["images"] for pair in near)]
    return {
        record["index"]
        for group in groups
        if differ(group, "split")
        for record in group
        if record["split"] == "test"
    }


def exact_groups(images: np.ndarray) -> list[list[int]]:
    """Groups of indices of byte-identical images, among (N, ...)."""
    groups = defaultdict(list)
    for index, image in enumerate(images):
        groups[hashlib.sha256(image.tobytes()).digest()].append(index)
    return [group for group in groups.values() if len(group) > 1]


def turn(images: np.ndarray, transform: int) -> np.ndarray:
    """Rotate images (N, H, W, 3) by `transform` % 4 right angles, mirrored first if it is >= 4."""
    if transform >= 4:
        images = images[:, :, ::-1]
    return np.rot90(images, transform % 4, axes=(1, 2))


def near_pairs(images: np.ndarray, threshold: float) -> list[tuple[int, int, int, float]]:
    """Near-duplicate pairs (i, j, transform, RMS), i < j, RMS <= threshold, nearest first.

    Exact duplicates are left out. Averaging over square blocks never raises the RMS difference, so
    a pair above the threshold at 7 x 7 or 8 x 8 pixels is above it at full size: none is missed.
    """
    count, side = len(images), images.shape[1]
    blocks = 8 if side % 8 == 0 else 7
    step = side // blocks
    coarse = images.reshape(count, blocks, step, blocks, step, 3).mean((2, 4), dtype=np.float32)
    coarse -= coarse.mean()  # smaller numbers are rounded less
    flat = coarse.reshape(count, -1)
    square = (flat**2).sum(1)
    length = flat.shape[1]
    rounding = 2 * length * np.finfo(np.float32).eps * square.max() + 1  # at most, of a distance
    limit = threshold**2 * length + rounding
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for transform in range(8):
        turned = turn(coarse, transform).reshape(count, -1)
        for start in range(0, count, BLOCK):
            rows = slice(start, start + BLOCK)
            distance = turned[rows] @ flat[start:].T
            distance *= -2  # in place, as this is where the time goes
            distance += square[rows, None]
            distance += square[start:]
            found = np.flatnonzero(distance <= limit)  # faster than in two dimensions
            for i, j in np.transpose(np.divmod(found, count - start)) + start:
                if i < j:
                    pair = images[[i]], images[[j]]
                    difference = turn(pair[0], transform).astype(np.float32) - pair[1]
                    rms = float(np.sqrt((difference**2).mean()))
                    best[i, j] = min(best.get((i, j), (np.inf, 0)), (rms, transform))
    pairs = [(int(i), int(j), t, rms) for (i, j), (rms, t) in best.items()]
    near = [pair for pair in pairs if pair[3] <= threshold and (pair[2] or pair[3])]
    return sorted(near, key=lambda pair: pair[3])


def captioned_pairs(dataset: Dataset, found: dict) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """(image, image, caption) of every duplicate that `audit` found, exact ones first."""
    splits = dataset.splits()
    exact = [(group[:2], "=", "equal") for group in found["exact_duplicate_groups"]]
    near = [
        (pair["images"], "~", f"differ by {pair['rms_difference']:.1f}")
        for pair in found["near_duplicate_pairs"]
    ]
    pairs = []
    for records, sign, relation in exact + near:
        places = f" {sign} ".join(f"{record['split']} {record['index']}" for record in records)
        labels = dict.fromkeys(dataset.classes[record["label"]] for record in records)
        first, second = (splits[record["split"]].images[record["index"]] for record in records)
        pairs.append((first, second, f"{places}\n{' / '.join(labels)}\n{relation}"))
    return pairs
