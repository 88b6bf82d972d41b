"""The loop: it learns, repeats itself, and reads the test split only when it may."""

from functools import partial

import numpy as np
import pytest
import torch

import models
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist, folds
from bloodcells.training import loop
from bloodcells.training.augmentation import view

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cells():
    return bloodmnist.load(synthetic=True)


def cross_validate(dataset, protocol="cross-validation", seed=0, epochs=1):
    recipe = Recipe(epochs=epochs, batch_size=64, lr=1e-3)
    build = partial(models.Baseline, image_size=28)
    plans = folds.plan(protocol, dataset, folds=2, runs=2, seed=seed)
    return folds.train_all(build, dataset, plans, recipe, CPU)


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
    tools = loop.begin(model, data, recipe, torch.Generator().manual_seed(0))
    history = list(loop.fit(model, *tools, data, recipe))
    assert [row["epoch"] for row in history] == list(range(1, 21))
    assert history[0]["train_loss"] > 1
    assert history[-1]["val_accuracy"] == 1
    assert history[-1]["val_loss"] < 0.1
    probabilities = loop.predict(model, images, batch_size=50)
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
    plan = folds.plan

    def second_only(*args, **settings):
        pool, plans = plan(*args, **settings)
        return pool, plans[1:]

    monkeypatch.setattr(folds, "plan", second_only)
    (alone,) = cross_validate(cells)
    assert (alone.test_probabilities == whole[1].test_probabilities).all()


def pool_images(pool):
    return np.concatenate([split.images for split in pool.splits])


def test_honest_pool_has_no_test_image_and_the_published_one_has_all(cells):
    pool, plans = folds.plan("cross-validation", cells, 5, 5, 0)
    assert len(pool) == len(cells.train) + len(cells.val)
    test = {image.tobytes() for image in cells.test.images}
    assert not test & {image.tobytes() for image in pool_images(pool)}
    assert len(plans) == 5
    assert all(plan.scored for plan in plans)
    pool, plans = folds.plan("as-published", cells, 5, 5, 0)
    assert [plan.scored for plan in plans] == [False] * 4 + [True]
    trained = {image.tobytes() for image in pool_images(pool)[plans[-1].train]}
    assert len(test & trained) / len(test) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("protocol", "reads"),
    [("cross-validation", 2), ("as-published", 1), ("official", 2), ("train-and-validation", 2)],
)
def test_test_split_is_read_once_a_scored_model_after_its_last_epoch(
    cells, monkeypatch, protocol, reads
):
    events = []
    predict, train_epoch = loop.predict, loop.train_epoch

    def spy_predict(model, images, *rest, **settings):
        if len(images) == len(cells.test):
            assert (images.numpy() == cells.test.images).all()
            events.append("test")
        return predict(model, images, *rest, **settings)

    def spy_train(*args):
        events.append("epoch")
        return train_epoch(*args)

    monkeypatch.setattr(loop, "predict", spy_predict)
    monkeypatch.setattr(loop, "train_epoch", spy_train)
    runs = cross_validate(cells, protocol, epochs=3)
    assert [run.test_probabilities is not None for run in runs] == [reads == 2, True]
    assert events.count("test") == reads
    assert events[-1] == "test"
    assert "test" not in events[:3]


def test_held_out_scores_are_of_the_rows_not_trained_on(cells):
    (run, _) = cross_validate(cells)
    pool, plans = folds.plan("cross-validation", cells, 2, 5, 0)
    assert (run.val_labels == pool.labels[plans[0].held_out]).all()
    accuracy = (run.val_probabilities.argmax(1) == run.val_labels).mean()
    assert run.history[-1]["val_accuracy"] == pytest.approx(accuracy)
    assert run.history[0].keys() & {"test_accuracy", "test_loss"} == set()


def test_official_protocol_trains_on_train_and_holds_out_validation(cells):
    pool, plans = folds.plan("official", cells, folds=5, runs=3, seed=4)
    assert [(plan.seed, plan.fold) for plan in plans] == [(4, None), (5, None), (6, None)]
    for plan in plans:
        assert (pool_images(pool)[plan.train] == cells.train.images).all()
        assert (pool.labels[plan.held_out] == cells.val.labels).all()


def test_train_and_validation_are_trained_on_together_and_nothing_is_held_out(cells):
    pool, plans = folds.plan("train-and-validation", cells, folds=5, runs=2, seed=4)
    found = [(plan.seed, plan.fold, plan.held_out) for plan in plans]
    assert found == [(4, None, None), (5, None, None)]
    trained = {image.tobytes() for image in pool_images(pool)[plans[0].train]}
    assert trained == {i.tobytes() for split in (cells.train, cells.val) for i in split.images}
    run, _ = cross_validate(cells, "train-and-validation")
    assert run.val_labels is None
    assert run.history[0].keys() & {"val_loss", "val_accuracy"} == set()


def test_prediction_over_views_is_the_mean_of_each(cells):
    torch.manual_seed(0)
    model = models.CellNet().eval()
    images = torch.from_numpy(cells.val.images)
    apart = [loop.predict(model, view(images, which)) for which in range(8)]
    together = loop.predict(model, images, views=8)
    torch.testing.assert_close(together, torch.stack(apart).mean(0))
    assert (apart[0] - apart[5]).abs().max() > 1e-3


def test_bfloat16_predicts_much_the_same(cells):
    torch.manual_seed(0)
    model = models.CellNet()
    images = torch.from_numpy(cells.val.images[:16])
    exact = loop.predict(model, images)
    rough = loop.predict(model, images, precision="bfloat16")
    torch.testing.assert_close(rough, exact, atol=0.03, rtol=0.1)
    assert (rough != exact).any()
    assert loop.choose_precision("bfloat16", CPU) == "bfloat16"
    assert loop.choose_precision("auto", CPU) in ("float32", "bfloat16")


def test_loss_of_a_certain_mistake_is_finite():
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss, accuracy = loop.loss_and_accuracy(probabilities, torch.tensor([0, 0]))
    assert np.isfinite(loss)
    assert accuracy == 0.5


def test_auto_device_is_there():
    assert loop.choose_device("auto").type in ("cpu", "cuda", "mps")


def test_float32_is_float32_in_a_gpu_s_convolutions_too(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    loop.choose_device("cpu")
    assert not torch.backends.cudnn.allow_tf32
