"""The study of the second batch: which images models see in training, and how they are scored."""

from dataclasses import replace

import numpy as np
import pytest
from shared import seen_by_networks
from written import complaints, metrics_of

from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Pool
from bloodcells.errors import UserError
from bloodcells.evaluation import batch_effect
from bloodcells.training import augmentation

FLAGS = ("--synthetic", "--epochs", 2, "--widths", 4, 8, 8, "--runs", 2, "--views", 1)


def test_script(run, tmp_path, monkeypatch):
    trained, predicted = [], seen_by_networks(monkeypatch)
    begin = augmentation.Batches.__init__

    def noted(self, images, *rest):
        trained.append(images[:].numpy())
        begin(self, images, *rest)

    monkeypatch.setattr(augmentation.Batches, "__init__", noted)
    outcome = run("batch_effect.py", *FLAGS, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    dataset = bloodmnist.load(None, 28, synthetic=True)
    images = np.concatenate([split.images for split in dataset.splits().values()])
    second = batch_effect.second_batch(dataset)
    of_second = {image.tobytes() for image in images[second]}
    shares = [np.mean([one.tobytes() in of_second for one in part]) for part in trained]
    assert shares == [0, 0.2] * 2  # one in six of all is one in five of the first batch
    assert len({len(part) for part in trained}) == 1
    val, test = len(dataset.val) * 5 // 6, len(dataset.test) + second[: -len(dataset.test)].sum()
    numbers = list(map(len, predicted))  # after each epoch, and at the end
    assert numbers == [val, val, val, test] * 4
    assert not any(one.tobytes() in of_second for one in predicted[0][:].numpy())

    assert complaints(tmp_path / "out" / "metrics.json") == []
    found = metrics_of(tmp_path / "out")["scores"]
    with np.load(tmp_path / "out" / "batch_predictions.npz") as arrays:
        labels, rows = arrays["labels"], arrays["rows"]
        right = arrays["probabilities"].argmax(2) == labels
        of_batch, new = arrays["second"], arrays["second"] & ~arrays["trained"]
    assert (labels == Pool(*dataset.splits().values()).labels[rows]).all()
    assert not set(rows[new]) & set(range(len(dataset.train)))
    scored = {
        "new_without": (right[::2], new),
        "new_with": (right[1::2], new),
        "second_batch": (right[::2], of_batch),
        "first_batch": (right[::2], ~of_batch),
        "first_batch_with": (right[1::2], ~of_batch),
    }
    for key, (models, part) in scored.items():
        recalls = [models[:, part & (labels == label)].mean(1) for label in np.unique(labels)]
        assert found[key]["mean"] == pytest.approx(np.mean(recalls))
        if key in found["recalls"][0]:
            assert [row[key] for row in found["recalls"]] == [pytest.approx(r) for r in recalls]
    assert found["images"] == {
        name: part.sum()
        for name, part in (("first", ~of_batch), ("second", of_batch), ("new", new))
    }
    difference = found["new_with"]["mean"] - found["new_without"]["mean"]
    assert found["gain"]["mean"] == pytest.approx(difference)
    assert "second batch, validation + test" in outcome.out
    assert (tmp_path / "out" / "batch_recall.png").exists()


def test_one_seed(run, tmp_path):
    outcome = run("batch_effect.py", *FLAGS, "--runs", 1, "--output", tmp_path)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-2].startswith("| 8 classes | 0.")


def test_the_official_second_batch(real_dataset):
    second = batch_effect.second_batch(real_dataset)
    labels = Pool(*real_dataset.splits().values()).labels
    assert second.sum() == 453
    assert real_dataset.classes.index("platelet") not in labels[second]
    arms = batch_effect.make_arms(labels, second, np.arange(len(real_dataset.train)), seed=0)
    assert not second[arms.without].any()
    assert second[arms.with_both].sum() == 312
    counts = [np.bincount(labels[rows]) for rows in arms]
    assert (counts[0] == counts[1]).all()
    assert max(map(max, arms)) < len(real_dataset.train)


def test_the_replaced_images_depend_on_the_seed_alone():
    labels, second = np.arange(600) % 8, np.arange(600) % 6 == 0
    first, again, other = (
        batch_effect.make_arms(labels, second, np.arange(400), seed).with_both for seed in (0, 0, 1)
    )
    assert first.tolist() == again.tolist() != other.tolist()


def test_only_the_official_images_have_photographs(real_dataset):
    fewer = real_dataset.test.rows(np.arange(9))
    with pytest.raises(UserError, match="not the official images"):
        batch_effect.second_batch(replace(real_dataset, test=fewer))


def test_class_mean_counts_classes_alike():
    labels = np.array([0] * 90 + [1] * 10)
    right = np.stack([labels == 0, np.ones(100, bool)])
    found = batch_effect.class_mean(labels, right)
    assert (found["mean"], found["std"]) == (0.75, pytest.approx(0.5 / 2**0.5))
    assert [found["low"], found["high"]] == pytest.approx([0.75, 0.75])  # alike within each class
    rng = np.random.default_rng(0)
    found = batch_effect.class_mean(np.zeros(400, int), rng.random((1, 400)) < 0.8)
    assert found["std"] is None
    assert found["high"] - found["low"] == pytest.approx(
        2 * 1.96 * (0.8 * 0.2 / 400) ** 0.5, rel=0.1
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--protocol", "cross-validation"), "--protocol cross-validation: here models train on"),
        (("--labels", "stages"), "--labels stages: granulocytes of the second"),
        (("--save-weights",), "--save-weights does nothing here"),
    ],
)
def test_refused(fails, tmp_path, flags, says):
    assert says in fails("batch_effect.py", "--synthetic", *flags, "--output", tmp_path)


def test_classes_that_the_second_batch_lacks_do_not_count():
    labels, second = np.arange(120) % 3, (np.arange(120) % 4 == 0) & (np.arange(120) % 3 < 2)
    wrong = np.where(labels == 2, 0, labels)  # the third class is never right
    arms = batch_effect.Arms(np.tile(wrong, (2, 1)), np.tile(wrong, (2, 1)))
    found = batch_effect.scores(labels, arms, second, np.zeros(120, bool), ("a", "b", "c"))
    assert found["first_batch"]["mean"] == found["first_batch_with"]["mean"] == 1
    assert [row["class"] for row in found["recalls"]] == ["a", "b"]
    assert found["images"]["first"] == 80 - second.sum()


def test_the_interval_is_of_the_mean_over_runs():
    right = np.random.default_rng(0).random(200) < 0.5
    found = batch_effect.class_mean(np.arange(200) % 2, np.stack([right, ~right]))
    assert (found["low"], found["mean"], found["high"]) == pytest.approx((0.5, 0.5, 0.5))
