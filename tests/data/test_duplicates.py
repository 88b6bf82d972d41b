"""The duplicate audit, on planted duplicates and against a search of all pairs."""

import numpy as np
import pytest
from drawn import noise

from bloodcells.data import duplicates
from bloodcells.data.bloodmnist import Dataset, Split


@pytest.fixture
def planted():
    """Train, validation and test of ten random images, with duplicates put in."""
    images = noise(30, 28, 28, 3)
    images[12] = images[3]  # val 2 equals train 3
    images[25] = images[4]  # test 5 equals train 4, under another label
    images[21] = np.rot90(images[7][:, ::-1], 3).clip(1, 254) + 1  # test 1 is train 7 turned
    images[22] = np.rot90(images[8])  # test 2 is train 8 turned, pixel by pixel
    labels = np.arange(30) % 8
    labels[12], labels[21], labels[22] = labels[3], labels[7], labels[8]
    parts = [Split(images[i : i + 10], labels[i : i + 10]) for i in (0, 10, 20)]
    return Dataset(*parts, size=28, source="", md5=None, synthetic=True)


def test_planted_duplicates_are_found(planted):
    found = duplicates.audit(planted, threshold=5)
    assert found["exact_duplicate_groups"] == [
        [{"split": "train", "index": 3, "label": 3}, {"split": "val", "index": 2, "label": 3}],
        [{"split": "train", "index": 4, "label": 4}, {"split": "test", "index": 5, "label": 1}],
    ]
    assert found["conflicting_groups"] == found["exact_duplicate_groups"][1:]
    turned, near = found["near_duplicate_pairs"]
    assert [record["index"] for record in turned["images"]] == [8, 2]
    assert (turned["rms_difference"], turned["transform"]) == (0, "rotated 90")
    assert [record["index"] for record in near["images"]] == [7, 1]
    assert near["transform"] == "mirrored, rotated 270"
    assert 0 < near["rms_difference"] < 2
    assert found["summary"]["test_images_with_a_twin_elsewhere"] == 3
    pairs = duplicates.captioned_pairs(planted, found)
    assert [caption.split("\n")[0] for *_, caption in pairs] == [
        "train 3 = val 2",
        "train 4 = test 5",
        "train 8 ~ test 2",
        "train 7 ~ test 1",
    ]


@pytest.mark.parametrize("size", [28, 64])
def test_search_misses_no_pair(size):
    base = noise(6, size, size, 3).astype(np.float32)
    changes = np.random.default_rng(1).normal(0, 12, (6, 4, size, size, 3))
    images = np.concatenate([base + changes[:, i] for i in range(4)]).clip(0, 255).astype(np.uint8)
    images[::5] = duplicates.turn(images[::5], 6)
    threshold = 17.5
    expected = {}
    for i, first in enumerate(images):
        for j in range(i + 1, len(images)):
            turned = [duplicates.turn(first[None], t)[0].astype(float) for t in range(8)]
            rms = min(np.sqrt(((t - images[j]) ** 2).mean()) for t in turned)
            if rms <= threshold:
                expected[i, j] = rms
    found = {(i, j): rms for i, j, _, rms in duplicates.near_pairs(images, threshold)}
    assert len(expected) > 10
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", range(40))
def test_rounding_hides_no_pair(seed):
    """A pair exactly at the threshold, of bright images, whose squares are large numbers."""
    image = np.random.default_rng(seed).integers(235, 250, (28, 28, 3)).astype(np.uint8)
    assert duplicates.near_pairs(np.stack([image, image + 2]), 2.0) == [(0, 1, 0, 2.0)]


def test_eight_transforms_differ():
    image = noise(1, 28, 28, 3)
    assert len({duplicates.turn(image, t).tobytes() for t in range(8)}) == 8


def test_real_duplicates(real_dataset):
    """Counted once by hand with numpy.unique over the raw bytes."""
    images = np.concatenate([split.images for split in real_dataset.splits().values()])
    groups = duplicates.exact_groups(images)
    assert len(groups) == 17
    assert all(len(group) == 2 for group in groups)
    unique = np.unique(images.reshape(len(images), -1), axis=0)
    assert len(images) - len(unique) == 17
