"""The scores of a user's labelled images, against values by hand."""

import numpy as np
import pytest

from bloodcells.evaluation.labelled import balanced
from bloodcells.evaluation.metrics import wilson_interval


def test_of_one_class_the_interval_is_its_own():
    found = balanced(np.array([3]), np.array([4]))
    assert (found["low"], found["high"]) == pytest.approx(wilson_interval(3, 4))
    assert found["mean"] == 0.75


def test_the_interval_has_a_width_where_all_is_right():
    found = balanced(np.array([2] * 8), np.array([2] * 8))
    assert found["high"] == found["mean"] == 1
    alone = 1 - wilson_interval(2, 2)[0]
    assert found["low"] == pytest.approx(1 - alone / 8**0.5)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    counts, recall = np.array([40, 60, 30]), np.array([0.95, 0.8, 0.6])
    held = 0
    for _ in range(400):
        found = balanced(rng.binomial(counts, recall), counts)
        held += found["low"] <= recall.mean() <= found["high"]
    assert 0.92 < held / 400 < 0.99
