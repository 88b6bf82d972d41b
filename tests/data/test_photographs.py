"""The table of photographs fits the official images, and images can be made of photographs."""

import io

import numpy as np
import pytest
from drawn import noise
from PIL import Image

from bloodcells.data import bloodmnist, photographs
from bloodcells.data.bloodmnist import CLASS_NAMES, Split
from bloodcells.data.class_names import Names
from bloodcells.data.duplicates import exact_groups
from bloodcells.data.photographs import CLASS_OF, STAGES, Photograph, read_table
from bloodcells.data.preparation import PHOTOGRAPHS
from bloodcells.errors import UserError

FOLDERS = {"ig": "immature granulocyte"}  # of the collection, where it is not the class's name


def test_every_official_image_has_its_own_photograph(real_dataset):
    table = read_table()
    names = [one.name for sources in table.values() for one in sources]
    assert len(set(names)) == len(names) == 17_092
    for split, images in real_dataset.splits().items():
        classes = [CLASS_NAMES[label] for label in images.labels]
        assert [CLASS_OF[one.stage] for one in table[split]] == classes
        folders = [one.name.partition("/")[0] for one in table[split]]
        assert [FOLDERS.get(folder, folder) for folder in folders] == classes
        assert {one.size for one in table[split]} <= PHOTOGRAPHS
        assert max(one.rms for one in table[split]) < 9


def test_stages_are_those_of_the_names():
    letters = {
        "BNE": "band neutrophil",
        "SNE": "segmented neutrophil",
        "PMY": "promyelocyte",
        "MY": "myelocyte",
        "MMY": "metamyelocyte",
        "IG": "immature granulocyte (no stage)",
        "NEUTROPHIL": "neutrophil (no stage)",
    }
    of_stages = {letter: stage for letter, stage in letters.items() if stage in STAGES}
    assert {letter: Names(STAGES).meaning(letter) for letter in of_stages} == of_stages
    found = {}
    for sources in read_table().values():
        for one in sources:
            letter = one.name.partition("/")[2].partition("_")[0]
            assert letters.get(letter, one.stage) == one.stage
            found[one.stage] = found.get(one.stage, 0) + 1
    assert set(found) == set(CLASS_OF)
    assert len(STAGES) == 11
    assert found["band neutrophil"] == 1633
    assert found["metamyelocyte"] == 1015


def test_twins_are_the_images_that_occur_twice(real_dataset):
    table = read_table()
    images = np.concatenate([split.images for split in real_dataset.splits().values()])
    sources = [one for name in real_dataset.splits() for one in table[name]]
    groups = exact_groups(images)
    across = [group for group in groups if len({sources[i].stage for i in group}) > 1]
    assert len(across) == 1  # in two classes, where each image was matched within its own
    twins = {i for group in groups for i in group if group not in across}
    assert twins == {i for i, one in enumerate(sources) if one.twin}


def test_file_numbers_are_no_order(real_dataset):
    """Neighbours in number are no more alike in background than any two of their stage."""
    table = read_table()
    sources = [one for name in real_dataset.splits() for one in table[name]]
    images = np.concatenate([split.images for split in real_dataset.splits().values()])
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    background = np.quantile(np.concatenate(sides, axis=1), 0.8, axis=1)
    numbers = np.array([int(one.name.rpartition("_")[2].partition(".")[0]) for one in sources])
    rng = np.random.default_rng(0)
    for stage in STAGES:
        rows = np.flatnonzero([one.stage == stage for one in sources])
        ordered = background[rows[np.argsort(numbers[rows])]]
        neighbours = abs(np.diff(ordered, axis=0)).mean()
        strangers = abs(ordered - ordered[rng.permutation(len(ordered))]).mean()
        assert 0.95 < neighbours / strangers < 1.05, stage


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """A collection of three photographs, one for each split, and its table."""
    rng = np.random.default_rng(0)
    table = {}
    sizes = zip(("train", "val", "test"), sorted(PHOTOGRAPHS)[:3], strict=True)
    for number, (split, size) in enumerate(sizes):
        name = f"ig/MY_{number}.jpg"
        (tmp_path / "ig").mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(60, 255, (9, 9, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(tmp_path / name, quality=95)
        table[split] = [Photograph(name, "myelocyte", size, 0.0, False)]
    monkeypatch.setattr(photographs, "read_table", lambda: table)
    return tmp_path, table


@pytest.mark.parametrize("size", [28, 64])
def test_images_are_made_by_the_official_chain(collection, size):
    folder, table = collection
    for jpeg in (True, False):
        made = photographs.rebuild(folder, size, jpeg)
        for split, (source,) in table.items():
            image = Image.open(folder / source.name)
            left, top = (round((side - 200) / 2) for side in image.size)
            part = image.crop((left, top, left + 200, top + 200))
            expected = part.resize((size, size), Image.Resampling.BILINEAR)
            if jpeg:
                file = io.BytesIO()
                expected.save(file, "JPEG", quality=75, subsampling="4:2:0")
                expected = Image.open(file)
            np.testing.assert_array_equal(made[split], np.asarray(expected)[None])


def test_a_photograph_that_is_not_the_collections(collection):
    folder, table = collection
    path = folder / table["val"][0].name
    Image.open(path).resize((300, 300)).save(path)
    with pytest.raises(UserError, match=r"MY_1.jpg has 300 x 300 pixels, not 360 x 360"):
        photographs.rebuild(folder, 28, jpeg=True)
    path.write_text("no image")
    with pytest.raises(UserError, match=r"MY_1.jpg cannot be read.*PBC_dataset_normal_DIB"):
        photographs.rebuild(folder, 28, jpeg=True)


def test_the_md5_of_photographs_is_of_all_splits():
    splits = {name: Split(noise(2, 4, 4, 3), np.arange(2)) for name in bloodmnist.SPLITS}
    sums = {bloodmnist.md5_of(splits)}
    for name in splits:
        changed = splits | {name: Split(255 - splits[name].images, np.arange(2))}
        sums.add(bloodmnist.md5_of(changed))
    assert len(sums) == 4
