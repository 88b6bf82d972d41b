"""The metrics against scikit-learn, SciPy and medmnist, and the intervals against theory."""

from types import SimpleNamespace

import medmnist
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from bloodcells.evaluation import metrics, run_metrics


@pytest.fixture(params=[0, 1, 2])
def example(request):
    """Labels (N,) and probabilities (N, 8) of an imperfect model; seed 2 has many ties."""
    rng = np.random.default_rng(request.param)
    labels = rng.choice(8, 900, p=[0.05, 0.2, 0.1, 0.15, 0.05, 0.1, 0.2, 0.15])
    probabilities = rng.dirichlet(np.ones(8), 900) + 0.5 * np.eye(8)[labels]
    if request.param == 2:
        probabilities = probabilities.round(1) + 0.01
    return labels, probabilities / probabilities.sum(1, keepdims=True)


def test_scores_are_scikit_learns(example):
    labels, probabilities = example
    predicted = probabilities.argmax(1)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "auc_macro": sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
    }
    assert metrics.scores(labels, probabilities) == pytest.approx(expected, abs=1e-9)


def test_auc_and_accuracy_are_medmnists(real_dataset, real_file):
    rng = np.random.default_rng(0)
    labels = real_dataset.test.labels
    probabilities = rng.dirichlet(np.ones(8), len(labels)) + 0.3 * np.eye(8)[labels]
    probabilities /= probabilities.sum(1, keepdims=True)
    judge = medmnist.Evaluator("bloodmnist", "test", root=str(real_file.parent))
    ours = metrics.scores(labels, probabilities)
    theirs = judge.evaluate(probabilities)
    assert ours["auc_macro"] == pytest.approx(theirs.AUC, abs=1e-9)
    assert ours["accuracy"] == pytest.approx(theirs.ACC, abs=1e-12)


def test_a_weighting_scores_like_the_repeated_images(example):
    labels, probabilities = example
    draws = np.random.default_rng(0).integers(0, len(labels), len(labels))
    weights = np.bincount(draws, minlength=len(labels))[None].astype(float)
    weighted = metrics.weighted_scores(labels, probabilities, weights)
    repeated = metrics.scores(labels[draws], probabilities[draws])
    assert {k: v[0] for k, v in weighted.items()} == pytest.approx(repeated, abs=1e-9)


def test_summary_keeps_spread_of_runs_and_interval_of_sampling_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 2000)
    wrong = (labels + 1) % 8
    right = rng.random((3, 2000)) < np.array([[0.88], [0.90], [0.92]])
    probabilities = np.eye(8)[np.where(right, labels, wrong)] * 0.9 + 0.0125
    summary = metrics.summarise(labels, probabilities)
    accuracy, values = summary["accuracy"], right.mean(1)
    assert set(summary) == set(metrics.METRICS)
    assert accuracy["mean"] == pytest.approx(values.mean())
    assert accuracy["std"] == pytest.approx(values.std(ddof=1))
    one = metrics.summarise(labels, probabilities[:1])["accuracy"]
    error = np.sqrt(values[0] * (1 - values[0]) / 2000)  # of a binomial share
    assert one["std"] is None
    assert one["low"] == pytest.approx(values[0] - 1.96 * error, abs=0.003)
    assert one["high"] == pytest.approx(values[0] + 1.96 * error, abs=0.003)
    assert accuracy["high"] - accuracy["low"] < one["high"] - one["low"]


def test_wilson_interval_is_scipys():
    for hits, count in [(0, 10), (10, 10), (57, 60), (450, 579)]:
        expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
        assert metrics.wilson_interval(hits, count) == pytest.approx(tuple(expected), abs=1e-12)
    assert metrics.wilson_interval(0, 0) == (0, 1)
    assert metrics.wilson_interval(1, 1)[0] > 0.2


def test_per_class_rows():
    labels = np.array([0, 0, 1, 1, 2])
    probabilities = np.eye(3)[[[0, 1, 1, 1, 1], [0, 0, 1, 1, 2]]]
    first, second, third = metrics.per_class(labels, probabilities, ["a", "b", "c"])
    assert (first["precision"], first["recall"], first["support"]) == (1, 0.75, 2)
    assert (second["precision"], second["recall"]) == (0.75, 1)
    assert (third["precision"], third["recall"], third["f1"]) == (0.5, 0.5, 0.5)
    assert (first["recall_low"], first["recall_high"]) == metrics.wilson_interval(1.5, 2)
    assert metrics.confusion_matrix(labels, probabilities).tolist() == [
        [1.5, 0.5, 0],
        [0, 2, 0],
        [0, 0.5, 0.5],
    ]
    never = np.eye(3)[[[0, 0, 1, 1, 1]]]  # the last class is not predicted
    assert metrics.confusion_matrix(labels, never).tolist() == [[2, 0, 0], [0, 2, 0], [0, 1, 0]]


def test_per_class_rows_average_to_the_macro_scores(example):
    labels, probabilities = example
    runs = np.stack([probabilities, np.roll(probabilities, 1, axis=0)])
    rows = metrics.per_class(labels, runs, [str(c) for c in range(8)])
    summary = metrics.summarise(labels, runs)
    for name in ("precision", "recall", "f1"):
        mean = np.mean([row[name] for row in rows])
        assert mean == pytest.approx(summary[f"{name}_macro"]["mean"], abs=1e-9)


def test_mcnemar():
    labels = np.arange(20) % 3
    first = (labels + np.array([0] * 18 + [2] * 2)) % 3
    second = (labels + np.array([1] * 9 + [0] * 10 + [1])) % 3
    outcome = metrics.mcnemar(labels, first, second)
    assert (outcome["only_first"], outcome["only_second"]) == (9, 1)
    assert outcome["p"] == pytest.approx(2 * (1 + 10) / 2**10)  # both tails of 1 or fewer in 10
    assert metrics.mcnemar(labels, first, first)["p"] == 1


def test_mean_and_deviation_of_models():
    found = metrics.mean_and_deviation([[1, 2], [3, 2], [5, 8]])
    assert found["mean"] == [3, 4]
    assert found["std"] == pytest.approx([2, np.sqrt(12)])
    assert metrics.mean_and_deviation([0.5]) == {"mean": 0.5, "std": None}


def test_majority_floor():
    assert metrics.majority_floor(np.array([1, 1, 2]), np.array([1, 2, 2, 2])) == 0.25


def test_the_majority_is_that_of_the_training_images():
    train, test = (
        SimpleNamespace(labels=np.array(labels)) for labels in ([1, 1, 0], [0, 0, 1] * 20)
    )
    dataset = SimpleNamespace(train=train, test=test, classes=("a", "b"))
    arrays = {"probabilities": np.full((1, 60, 2), 0.5)}
    found = run_metrics.score_runs([], arrays, dataset, "official")
    assert found["test_majority_class_accuracy"] == pytest.approx(1 / 3)
