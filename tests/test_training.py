"""The loop: it learns, repeats itself, and reads the test split only when it may."""

from functools import partial

import numpy as np
import pytest
import torch

import bloodmnist
import models
import training
from training import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cells():
    return bloodmnist.load(synthetic=True)


def cross_validate(dataset, protocol="cross-validation", seed=0, epochs=1):
    recipe = Recipe(epochs=epochs, batch_size=64, lr=1e-3)
    build = partial(models.Baseline, image_size=28)
    return training.cross_validate(build, dataset, protocol, 2, recipe, seed, CPU)


def test_learns():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (256, 8, 8, 3), dtype=torch.uint8)
    labels = torch.arange(256) % 4
    images[labels == 0, :4, :4] = 0
    images[labels == 1, 4:, :4] = 0
    images[labels == 2, :4, 4:] = 0
    model = models.ConvNet(image_size=8, num_classes=4)
    data = images, labels
    recipe = Recipe(epochs=20, batch_size=32, lr=1e-3)
    history = list(training.fit(model, data, data, recipe, torch.Generator().manual_seed(0)))
    assert [row["epoch"] for row in history] == list(range(1, 21))
    assert history[0]["train_loss"] > 1
    assert history[-1]["val_accuracy"] == 1
    assert history[-1]["val_loss"] < 0.1
    probabilities = training.predict(model, images, batch_size=50)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(256))
    assert (probabilities.argmax(1) == labels).all()


def test_one_seed_gives_one_result(cells):
    first, again, other = (cross_validate(cells, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert (a.test_probabilities == b.test_probabilities).all()
    assert (first[0].test_probabilities != other[0].test_probabilities).any()
    assert (first[0].test_probabilities != first[1].test_probabilities).any()


def test_a_fold_does_not_depend_on_the_folds_before(cells, monkeypatch):
    whole = cross_validate(cells)
    folds = training.protocol_folds
    monkeypatch.setattr(
        training, "protocol_folds", lambda *args: (folds(*args)[0], folds(*args)[1][:1])
    )
    (alone,) = cross_validate(cells)
    assert (alone.test_probabilities == whole[0].test_probabilities).all()


def test_honest_pool_has_no_test_image_and_the_published_one_has_all(cells):
    pool, folds = training.protocol_folds("cross-validation", cells, 5, 0)
    assert len(pool) == len(cells.train) + len(cells.val)
    test = {image.tobytes() for image in cells.test.images}
    assert not test & {image.tobytes() for image in pool.images}
    assert len(folds) == 5
    pool, folds = training.protocol_folds("as-published", cells, 5, 0)
    trained = {image.tobytes() for image in pool.images[folds[-1][0]]}
    assert len(test & trained) / len(test) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(("protocol", "reads"), [("cross-validation", 2), ("as-published", 1)])
def test_test_split_is_read_once_a_scored_model_after_its_last_epoch(
    cells, monkeypatch, protocol, reads
):
    events = []
    predict, train_epoch = training.predict, training.train_epoch

    def spy_predict(model, images, *rest):
        if len(images) == len(cells.test):
            assert (images.numpy() == cells.test.images).all()
            events.append("test")
        return predict(model, images, *rest)

    def spy_train(*args):
        events.append("epoch")
        return train_epoch(*args)

    monkeypatch.setattr(training, "predict", spy_predict)
    monkeypatch.setattr(training, "train_epoch", spy_train)
    runs = cross_validate(cells, protocol, epochs=3)
    assert [run.test_probabilities is not None for run in runs] == [reads == 2, True]
    assert events.count("test") == reads
    assert events[-1] == "test"
    assert "test" not in events[:3]


def test_held_out_scores_are_of_the_rows_not_trained_on(cells):
    (run, _) = cross_validate(cells)
    pool, folds = training.protocol_folds("cross-validation", cells, 2, 0)
    assert (run.val_labels == pool.labels[folds[0][1]]).all()
    accuracy = (run.val_probabilities.argmax(1) == run.val_labels).mean()
    assert run.history[-1]["val_accuracy"] == pytest.approx(accuracy)
    assert run.history[0].keys() & {"test_accuracy", "test_loss"} == set()


def test_loss_of_a_certain_mistake_is_finite():
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss, accuracy = training.loss_and_accuracy(probabilities, torch.tensor([0, 0]))
    assert np.isfinite(loss)
    assert accuracy == 0.5


def test_auto_device_is_there():
    assert training.choose_device("auto").type in ("cpu", "cuda", "mps")
