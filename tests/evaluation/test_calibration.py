"""Calibration and sets of classes, against figures worked out otherwise."""

import numpy as np
import pytest
from scipy.special import softmax

from bloodcells.evaluation import calibration
from bloodcells.inference.cards import LEVELS


def drawn(count=4000, classes=4, seed=0):
    """Labels drawn from the very probabilities that come with them."""
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 2, (count, classes)), axis=1)
    labels = (probabilities.cumsum(1) < rng.random((count, 1))).sum(1)
    return labels, probabilities


@pytest.mark.parametrize("temperature", [0.08, 0.5, 1, 3])
def test_fit_recovers_the_temperature_that_was_taken_out(temperature):
    labels, probabilities = drawn()
    distorted = softmax(np.log(probabilities) * temperature, axis=1)
    assert calibration.fit_temperature(labels, distorted) == pytest.approx(temperature, rel=0.08)


def test_where_all_is_right_probabilities_stay_as_they_are():
    _, probabilities = drawn()
    answers = probabilities.argmax(1)
    assert calibration.fit_temperature(answers, probabilities) == 1
    answers[0] = (answers[0] + 1) % 4
    assert calibration.fit_temperature(answers, probabilities) < 1


def test_temperature_survives_a_probability_of_zero():
    sharp = calibration.apply_temperature(np.array([[1.0, 0.0]], np.float32), 0.5)
    assert sharp.tolist() == [[1, 0]]


def test_calibration_error_of_a_known_gap():
    labels = np.array([0] * 6 + [1] * 4)
    probabilities = np.tile([0.9, 0.1], (10, 1))
    assert calibration.expected_calibration_error(labels, probabilities) == pytest.approx(0.3)
    (row,) = calibration.reliability(labels, probabilities)
    assert row == {"images": 10, "confidence": pytest.approx(0.9), "accuracy": 0.6}


def test_true_probabilities_are_calibrated():
    assert calibration.expected_calibration_error(*drawn(50_000)) < 0.01


def test_certainty_has_a_bin():
    rows = calibration.reliability(np.array([0, 1]), np.array([[1.0, 0], [0.5, 0.5]]))
    assert [row["confidence"] for row in rows] == [0.5, 1]
    (row,) = calibration.reliability(np.array([0, 0]), np.array([[1.0, 0], [0.98, 0.02]]))
    assert row == {"images": 2, "confidence": pytest.approx(0.99), "accuracy": 1}


def test_scores_by_hand():
    labels = np.array([0, 1, 1, 0, 0])
    true = np.array([0.8, 0.38, 0.71, 0.45, 0.9])  # the probabilities of these classes
    probabilities = np.where(np.eye(2)[labels], true[:, None], 1 - true[:, None])
    scores = calibration.scores(labels, probabilities)
    assert scores["accuracy"] == 0.6
    assert scores["ece"] == pytest.approx((0.2 + 0.62 + 0.29 + 0.55 + 0.1) / 5)
    assert scores["nll"] == pytest.approx(-np.log(true).mean())
    assert scores["brier"] == pytest.approx(2 * ((1 - true) ** 2).mean())
    assert scores["aurc"] == pytest.approx((0 + 0 + 0 + 1 / 4 + 2 / 5) / 5)  # the surest are right


def test_risk_and_coverage_by_hand():
    labels, probabilities = np.array([0, 1, 0]), np.array([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2]])
    coverage, risk = calibration.risk_coverage(labels, probabilities)
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk == pytest.approx([1, 1 / 2, 1 / 3])  # the surest is wrong


def test_images_of_equal_confidence_have_no_order():
    labels, probabilities = np.array([0, 0, 1, 0]), np.array([[0.9, 0.1]] + [[0.8, 0.2]] * 3)
    _, risk = calibration.risk_coverage(labels, probabilities)
    assert risk == pytest.approx([0, 1 / 6, 2 / 9, 1 / 4])
    turned = labels[::-1], probabilities[::-1]
    assert calibration.aurc(*turned) == pytest.approx(calibration.aurc(labels, probabilities))


def test_no_set_asks_for_certainty_and_too_few_images_are_told():
    labels, certain = np.zeros(30, int), np.tile([1.0, 0.0], (30, 1))
    sets = {level: calibration.set_threshold(labels, certain, float(level)) for level in LEVELS}
    assert sets == {"0.95": calibration.MOST, "0.99": 0}
    note = "too few images for sets at 0.99: these hold every class"
    assert calibration.without_guarantee(sets) == note
    assert calibration.without_guarantee({"0.95": 0.5}) is None


def test_sets_by_hand():
    true = np.arange(1, 10) / 10  # the probabilities of the true class, the first, of nine images
    labels, probabilities = np.zeros(9, int), np.column_stack([true, 1 - true])
    # of ten that are alike, the tenth's is among the eight largest eight times
    assert calibration.set_threshold(labels, probabilities, 0.8) == pytest.approx(0.2)
    assert calibration.set_threshold(labels, probabilities, 0.9) == pytest.approx(0.1)
    assert calibration.set_threshold(labels, probabilities, 0.91) == 0  # too few: all classes
    found = calibration.set_scores(np.array([0, 0, 1, 1]), probabilities[[4, 2, 8, 1]], 0.65)
    assert found["coverage"] == found["empty"] == 0.25
    assert found["size"] == 0.75
    assert (found["coverage_by_class"], found["size_by_class"]) == ([0, 0.5], [0.5, 1])


def test_sets_hold_the_truth_as_often_as_promised():
    labels, probabilities = drawn(8000)
    for level in (0.8, 0.95):
        threshold = calibration.set_threshold(labels[:4000], probabilities[:4000], level)
        found = calibration.set_scores(labels[4000:], probabilities[4000:], threshold)
        assert found["coverage"] == pytest.approx(level, abs=0.02)
        by_class = np.average(found["size_by_class"], weights=np.bincount(labels[4000:]))
        assert by_class == pytest.approx(found["size"])
