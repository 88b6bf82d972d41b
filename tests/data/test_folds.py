"""Which images a model trains on: no test image under the honest protocols."""

import numpy as np
import pytest
import torch

from bloodcells.data import bloodmnist
from bloodcells.data.folds import Fold, make_folds, plain_folds, stratified_folds
from bloodcells.errors import UserError
from bloodcells.training.seeds import seed_everything


@pytest.fixture(scope="module")
def cells():
    return bloodmnist.load(synthetic=True)


def pool_images(pool):
    return np.concatenate([split.images for split in pool.splits])


def test_each_fold_and_seed_begins_with_weights_of_its_own():
    draws = []
    for seed, fold in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        generator = seed_everything(Fold(seed, fold, np.arange(0), None, False))
        draws += [torch.rand(()).item(), torch.rand((), generator=generator).item()]
    assert draws[::2] == draws[1::2]  # the batches' start from the same seed as the weights
    assert len(set(draws)) == 5


def test_honest_pool_has_no_test_image_and_the_published_one_has_all(cells):
    pool, folds = make_folds("cross-validation", cells, 5, 5, 0)
    assert len(pool) == len(cells.train) + len(cells.val)
    test = {image.tobytes() for image in cells.test.images}
    assert not test & {image.tobytes() for image in pool_images(pool)}
    assert len(folds) == 5
    assert all(fold.scored for fold in folds)
    pool, folds = make_folds("as-published", cells, 5, 5, 0)
    assert [fold.scored for fold in folds] == [False] * 4 + [True]
    trained = {image.tobytes() for image in pool_images(pool)[folds[-1].train]}
    assert len(test & trained) / len(test) == pytest.approx(0.8, abs=0.1)


def test_official_protocol_trains_on_train_and_holds_out_validation(cells):
    pool, folds = make_folds("official", cells, folds=5, runs=3, seed=3)
    assert [(one.seed, one.fold, one.scored) for one in folds] == [
        (seed, None, True) for seed in (3, 4, 5)
    ]
    for fold in folds:
        assert (pool_images(pool)[fold.train] == cells.train.images).all()
        assert (pool.labels[fold.held_out] == cells.val.labels).all()


def test_train_and_validation_are_trained_on_together_and_nothing_is_held_out(cells):
    pool, folds = make_folds("train-and-validation", cells, folds=5, runs=2, seed=4)
    found = [(fold.seed, fold.fold, fold.held_out) for fold in folds]
    assert found == [(4, None, None), (5, None, None)]
    trained = {image.tobytes() for image in pool_images(pool)[folds[0].train]}
    assert trained == {i.tobytes() for split in (cells.train, cells.val) for i in split.images}


def test_names_tell_models_apart(cells):
    _, folds = make_folds("cross-validation", cells, 2, 1, 7)
    assert [fold.name for fold in folds] == ["seed-7-fold-0", "seed-7-fold-1"]
    _, (only,) = make_folds("official", cells, 2, 1, 7)
    assert only.name == "seed-7"


def test_folds_part_the_pool_and_keep_class_shares():
    labels = np.repeat(np.arange(8), [80, 40, 40, 20, 20, 40, 40, 120])
    folds = stratified_folds(labels, 5, seed=0, classes=8)
    held_out = np.concatenate([rows for _, rows in folds])
    assert sorted(held_out) == list(range(len(labels)))
    for train, held in folds:
        assert not set(train) & set(held)
        assert len(train) + len(held) == len(labels)
        assert (np.bincount(labels[held]) * 5 == np.bincount(labels)).all()
    again = stratified_folds(labels, 5, seed=0, classes=8)
    other = stratified_folds(labels, 5, seed=1, classes=8)
    assert all((a[1] == b[1]).all() for a, b in zip(folds, again, strict=True))
    assert any((a[1] != b[1]).any() for a, b in zip(folds, other, strict=True))


def test_more_folds_than_images_of_a_class():
    with pytest.raises(UserError, match="smallest class has only 3 images"):
        stratified_folds(np.repeat(np.arange(8), 3), 5, seed=0, classes=8)
    assert len(stratified_folds(np.repeat(np.arange(8), 3), 3, seed=0, classes=8)) == 3


def test_more_plain_folds_than_images():
    with pytest.raises(UserError, match="there are only 3 images"):
        plain_folds(np.zeros(3), 5, seed=0)
    assert len(plain_folds(np.zeros(3), 3, seed=0)) == 3


def test_an_unknown_protocol_is_not_taken_for_the_published_one(cells):
    with pytest.raises(ValueError, match="no protocol 'offical'"):
        make_folds("offical", cells, 5, 5, 0)


def test_plain_folds_are_drawn_by_the_seed():
    first, again, other = (plain_folds(np.zeros(40), 4, seed) for seed in (0, 0, 1))
    held_out = [[rows.tolist() for _, rows in folds] for folds in (first, again, other)]
    assert held_out[0] == held_out[1] != held_out[2]
    assert sorted(row for rows in held_out[0] for row in rows) == list(range(40))
    assert held_out[0][0] != list(range(10))
