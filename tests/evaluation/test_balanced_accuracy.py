"""The balanced accuracy and its intervals, against values by hand."""

import numpy as np
import pytest

from bloodcells.evaluation import balanced_accuracy
from bloodcells.evaluation.balanced_accuracy import (
    gain_over_slides,
    over,
    over_images,
    over_slides,
    recall_over_slides,
)
from bloodcells.evaluation.metrics import wilson_interval


def test_of_one_class_the_interval_is_its_own():
    found = over_images(np.array([3]), np.array([4]))
    assert (found["low"], found["high"]) == pytest.approx(wilson_interval(3, 4))
    assert found["mean"] == 0.75


def test_the_interval_has_a_width_where_all_is_right():
    found = over_images(np.array([2] * 8), np.array([2] * 8))
    assert found["high"] == found["mean"] == 1
    alone = 1 - wilson_interval(2, 2)[0]
    assert found["low"] == pytest.approx(1 - alone / 8**0.5)


def test_the_interval_stays_between_0_and_1():
    assert over_images(np.zeros(2), np.array([3, 3]))["low"] == 0
    assert over_images(np.array([27]), np.array([27]))["high"] == 1


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    counts, recall = np.array([40, 60, 30]), np.array([0.95, 0.8, 0.6])
    held = 0
    for _ in range(400):
        found = over_images(rng.binomial(counts, recall), counts)
        held += found["low"] <= recall.mean() <= found["high"]
    assert 0.92 < held / 400 < 0.99


def test_where_slides_differ_the_interval_over_them_is_wider_and_holds_the_truth():
    """Twelve slides of 30 images, whose accuracies differ; the truth is their mean."""
    rng = np.random.default_rng(0)
    held, width = np.zeros(2), np.zeros(2)
    for _ in range(100):
        slides = np.repeat(np.arange(12), 30)
        labels = slides % 2  # a slide has one class
        right = rng.random(len(slides)) < rng.beta(6, 2, size=12)[slides]
        both = (
            over_images(np.bincount(labels, right), np.bincount(labels)),
            over_slides(labels, right, slides),
        )
        assert both[0]["mean"] == pytest.approx(both[1]["mean"])
        held += [found["low"] <= 0.75 <= found["high"] for found in both]
        width += [found["high"] - found["low"] for found in both]
    assert held[0] < 70 < 80 < held[1]
    assert width[1] > 1.3 * width[0]


def test_a_gain_is_resampled_by_pairs():
    """Slides of which one is read and another not, by both alike: the gain is much surer."""
    slides = np.arange(400) // 20
    labels, before = slides % 2, slides % 3 > 0
    after = before | (np.arange(400) % 20 == 0)
    gain = gain_over_slides(labels, before, after, slides)
    first, second = (over_slides(labels, right, slides) for right in (before, after))
    assert gain["mean"] == pytest.approx(second["mean"] - first["mean"])
    assert 0 < gain["low"] < gain["mean"] < gain["high"]
    assert gain["high"] - gain["low"] < 0.1 * (first["high"] - first["low"])


def test_a_gain_of_classes_that_are_on_one_slide_each_has_a_width():
    labels = slides = np.arange(24) // 12
    before = np.ones(24, bool)
    after = before.copy()
    assert gain_over_slides(labels, before, after, slides) == {"mean": 0, "low": 0, "high": 0}
    after[0] = False
    gain = gain_over_slides(labels, before, after, slides)
    assert gain["mean"] == pytest.approx(-1 / 24)
    assert gain["low"] < gain["mean"] < 0 < gain["high"]


def test_a_class_that_a_resample_lacks_counts_as_usual():
    """Left out, it would move the mean of the resample to that of the other classes."""
    labels, slides = np.array([0] * 40 + [1] * 10), np.array([0, 1, 2, 3] * 10 + [4] * 10)
    right = labels == 0
    found = over_slides(labels, right, slides)
    assert found == over_images(np.array([40, 0]), np.array([40, 10]))
    assert found["high"] < 0.7  # not 1, though every image of class 0 is right
    gain = gain_over_slides(labels, np.zeros(50), right, slides)
    assert (gain["low"], gain["mean"], gain["high"]) == (0.5, 0.5, 0.5)


def test_the_recall_of_a_class_over_its_own_slides():
    right, slides = np.arange(40) % 4 > 0, np.arange(40) // 10 * 3  # numbered with gaps
    found = recall_over_slides(right, slides)
    assert found == over_slides(np.zeros(40), right, np.arange(40) // 10)
    alone = recall_over_slides(right, np.full(40, 7))
    assert (alone["low"], alone["high"]) == pytest.approx(wilson_interval(right.sum(), 40))


@pytest.mark.parametrize(
    ("slides", "by_class", "words"),
    [
        (20, [5, 6], "over 20 slides"),
        (20, [5, 1], "over 20 slides; too narrow: a class is on one of them only"),
        (20, [5, 2], "over 20 slides; too narrow: a class is on 2 of them only"),
        (9, [5, 4], "over 9 slides; too narrow for so few"),
        (2, [2, 2], "over 2 slides; too narrow for so few"),
    ],
)
def test_intervals_that_are_too_narrow_are_told(slides, by_class, words):
    assert over(slides, by_class) == words


def test_the_interval_over_slides_has_a_width_where_all_is_right():
    labels, slides = np.arange(100) % 2, np.arange(100) // 20
    found = over_slides(labels, np.ones(100), slides)
    assert found == over_images(np.array([50, 50]), np.array([50, 50]))
    assert found["low"] < 0.98


@pytest.mark.parametrize(("count", "least"), [(4, 0.85), (10, 0.9), (20, 0.9)])
def test_how_often_the_interval_over_few_slides_holds_the_truth(count, least, monkeypatch):
    monkeypatch.setattr(balanced_accuracy, "RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    slides = np.repeat(np.arange(count), 30)
    held = 0
    for _ in range(200):
        right = rng.random(len(slides)) < rng.beta(6, 2, size=count)[slides]
        found = over_slides(np.zeros(len(slides)), right, slides)
        held += found["low"] <= 0.75 <= found["high"]
    assert held / 200 > least


def test_single_images_as_slides_give_the_interval_over_images():
    right = np.arange(200) % 4 > 0
    found = over_slides(np.zeros(200), right, np.arange(200))
    low, high = wilson_interval(150, 200)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.01)
