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


@pytest.mark.parametrize("block", [1, 7, 24])
def test_search_in_blocks_finds_the_same(monkeypatch, block):
    images = noise(24, 28, 28, 3)
    images[20] = images[3].clip(2) - 2
    images[21] = duplicates.turn(images[[9]], 5)[0]
    images[23] = images[22].clip(1) - 1
    expected = duplicates.near_pairs(images, 5)
    assert {pair[:2] for pair in expected} == {(3, 20), (9, 21), (22, 23)}
    monkeypatch.setattr(duplicates, "BLOCK", block)
    assert duplicates.near_pairs(images, 5) == expected


def test_of_turns_that_look_alike_from_afar_the_nearest_counts():
    """Images of little contrast: averaged over blocks, each is like all of its turns."""
    images = 120 + noise(2, 28, 28, 3) // 8
    images[1] = images[0] + 1
    for transform in range(8):
        turned = np.concatenate([images[:1], duplicates.turn(images[1:], transform)])
        assert duplicates.near_pairs(turned, 8) == [(0, 1, transform, 1.0)]


def test_the_summary_counts_what_crosses_splits_and_what_conflicts():
    """Twins within the test split are none elsewhere; labels may differ within a split."""
    images, labels = noise(30, 28, 28, 3), np.arange(30) % 8
    images[21], labels[21] = images[20], labels[20]  # test 0 and 1
    images[2], labels[2] = images[1], labels[1] + 1  # train 1 and 2
    images[11], labels[11] = images[0], labels[0]  # train 0 and val 1
    images[12], labels[12] = images[8], labels[8]  # train 8 and val 2
    images[4], labels[4] = images[3].clip(1) - 1, labels[3]  # nearly: train 3 and 4
    images[6], labels[6] = images[5].clip(1) - 1, labels[5] + 1  # train 5 and 6
    images[25], labels[25] = images[7].clip(1) - 1, labels[7]  # train 7 and test 5
    images[26], labels[26] = images[24].clip(1) - 1, labels[24] + 1  # test 4 and 6
    parts = [Split(images[i : i + 10], labels[i : i + 10]) for i in (0, 10, 20)]
    found = duplicates.audit(Dataset(*parts, 28, "", None, synthetic=True), threshold=5)
    assert found["summary"] == {
        "exact_duplicate_groups": 4,
        "exact_duplicate_groups_across_splits": 2,
        "conflicting_groups": 1,
        "near_duplicate_pairs": 4,
        "near_duplicate_pairs_across_splits": 1,
        "near_duplicate_pairs_conflicting": 2,
        "test_images_with_a_twin_elsewhere": 1,
    }
