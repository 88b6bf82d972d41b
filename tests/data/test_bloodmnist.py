"""The data in memory: real counts, normalisation, batches, and the generated stand-in."""

from pathlib import Path

import medmnist
import numpy as np
import pytest
import torch
from torchvision import transforms

from bloodcells.data import bloodmnist, photographs, synthetic_cells
from bloodcells.data.bloodmnist import Split
from bloodcells.data.photographs import CLASS_OF, STAGES, Photograph, read_table
from bloodcells.errors import UserError


def test_class_names_are_medmnists():
    official = medmnist.INFO["bloodmnist"]["label"]
    for label, name in enumerate(bloodmnist.CLASS_NAMES):
        assert official[str(label)].startswith(name)


def test_real_counts(real_dataset):
    assert real_dataset.describe() == {
        "name": "BloodMNIST",
        "size": 28,
        "md5": "7053d0359d879ad8a5505303e11de1dc",
        "synthetic": False,
        "counts": {"train": 11959, "val": 1712, "test": 3421},
    }
    rows = real_dataset.count_table()
    assert rows[0] == ["class", "train", "val", "test", "all"]
    assert rows[1] == ["basophil", 852, 122, 244, 1218]
    assert rows[-1] == ["all classes", 11959, 1712, 3421, 17092]
    assert real_dataset.test.labels.dtype == np.int64


def test_stages_of_real_images(real_dataset):
    root = Path(real_dataset.source.partition(" (")[0]).parent
    dataset = bloodmnist.load(root, labels="stages")
    assert dataset.classes == STAGES
    assert dataset.describe()["counts"] == {"train": 11819, "val": 1686, "test": 3386}
    assert dataset.describe()["without_stage"] == {"train": 140, "val": 26, "test": 35}
    rows = {row[0]: row[1:] for row in dataset.count_table()}
    assert rows["metamyelocyte"] == [710, 100, 205, 1015]
    sources = [one for one in read_table()["val"] if one.stage in STAGES]
    assert [STAGES[label] for label in dataset.val.labels] == [one.stage for one in sources]
    known = [one.stage in STAGES for one in read_table()["val"]]
    np.testing.assert_array_equal(dataset.val.images, real_dataset.val.images[known])


def test_generated_images_get_stages_of_their_class():
    classes, stages = (
        bloodmnist.load(synthetic=True, labels=labels) for labels in ("classes", "stages")
    )
    for one, other in zip(classes.test.labels, stages.test.labels, strict=True):
        assert CLASS_OF[STAGES[other]] == bloodmnist.CLASS_NAMES[one]
    assert set(stages.test.labels) == set(range(11))


def test_images_from_photographs(tmp_path, monkeypatch):
    images = {
        name: np.full((3, 40, 40, 3), n, np.uint8) for n, name in enumerate(bloodmnist.SPLITS)
    }
    monkeypatch.setattr(photographs, "rebuild", lambda folder, size, jpeg: images)
    sources = [
        Photograph("a.jpg", stage, (360, 363), 1.0, False)
        for stage in ("band neutrophil", "monocyte", "neutrophil (no stage)")
    ]
    monkeypatch.setattr(photographs, "read_table", lambda: dict.fromkeys(images, sources))
    dataset = bloodmnist.load(size=40, photographs=tmp_path)
    names = [bloodmnist.CLASS_NAMES[label] for label in dataset.val.labels]
    assert names == ["neutrophil", "monocyte", "neutrophil"]
    assert dataset.describe()["name"] == "BloodMNIST from photographs"
    assert len(dataset.describe()["md5"]) == 32
    lossless = bloodmnist.load(size=40, photographs=tmp_path, jpeg=False, labels="stages")
    assert lossless.describe()["name"] == "BloodMNIST from photographs, without JPEG"
    assert [STAGES[label] for label in lossless.val.labels] == ["band neutrophil", "monocyte"]


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (np.zeros((4, 28, 28), np.uint8), np.zeros((4, 1)), "not 28 px RGB"),
        (np.zeros((4, 28, 28, 3), np.float32), np.zeros((4, 1)), "not 28 px RGB"),
        (np.zeros((4, 28, 28, 3), np.uint8), np.zeros(4), "labels of shape"),
        (np.zeros((4, 28, 28, 3), np.uint8), np.zeros((3, 1)), "labels of shape"),
        (np.zeros((4, 28, 28, 3), np.uint8), np.full((4, 1), 8), "a label is outside 0..7"),
        (np.zeros((4, 28, 28, 3), np.uint8), np.full((4, 1), -1), "a label is outside 0..7"),
    ],
)
def test_wrong_arrays(images, labels, says, tmp_path):
    with pytest.raises(UserError, match=says):
        bloodmnist.checked_split(tmp_path / "bloodmnist.npz", images, labels, 28)


def test_normalise_is_the_papers_transform():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
    usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    expected = torch.stack([usual(image) for image in images])
    torch.testing.assert_close(bloodmnist.normalise(torch.from_numpy(images)), expected)


def test_sample_has_the_classes_in_proportion():
    labels = np.repeat(np.arange(8), [10, 20, 30, 40, 50, 60, 70, 120])
    split = Split(np.arange(400, dtype=np.uint8)[:, None, None, None], labels)
    for count in (1, 9, 40, 399, 400, 500):
        part = split.sample(count, seed=0)
        assert len(part) == min(count, 400)
        assert (abs(part.class_counts() - split.class_counts() * len(part) / 400) <= 1).all()
        assert (split.sample(count, seed=0).images == part.images).all()
    assert (split.sample(40, seed=1).images != split.sample(40, seed=0).images).any()
    assert (split.sample(400, seed=0).images == split.images).all()


def test_pool_holds_its_splits_without_a_copy():
    parts = [np.arange(n * 4 * 4 * 3, dtype=np.uint8).reshape(n, 4, 4, 3) for n in (5, 3)]
    splits = [Split(part, np.arange(len(part))) for part in parts]
    pool = bloodmnist.Pool(*splits)
    assert (len(pool), pool.labels.tolist()) == (8, [0, 1, 2, 3, 4, 0, 1, 2])
    images, labels = pool.to(torch.device("cpu"))
    assert [p.data_ptr() for p in images.parts] == [part.ctypes.data for part in parts]
    assert labels.tolist() == pool.labels.tolist()
    together = torch.from_numpy(np.concatenate(parts))
    assert images.shape == together.shape
    for rows in (torch.tensor([7, 0, 5, 5]), torch.tensor([2, 1]), torch.tensor([6])):
        chosen = images.choose(rows)
        assert len(chosen) == len(rows)
        assert torch.equal(chosen[:], together[rows])
        assert torch.equal(chosen[torch.tensor([0])], together[rows[:1]])
        assert torch.equal(chosen.choose(torch.tensor([0, 0]))[1:], together[rows[:1]])
    assert len(images.choose(torch.tensor([2, 1])).parts) == 1


@pytest.mark.parametrize("size", [28, 64])
def test_generated_cells(size):
    first = synthetic_cells.make(size)
    again = synthetic_cells.make.__wrapped__(size)  # past the cache of the tests
    for name, count in synthetic_cells.COUNTS.items():
        images, labels = first[name]
        assert images.shape == (count, size, size, 3)
        assert images.dtype == np.uint8
        assert (np.bincount(labels) == count // 8).all()
        assert (images == again[name][0]).all()
    dataset = bloodmnist.load(size=size, synthetic=True)
    assert dataset.describe()["synthetic"] is True
    assert dataset.md5 is None
