"""Accuracy under corruption: of a run's own weights, on the images that were asked for."""

import shutil

import numpy as np
import pytest
from written import change, complaints, metrics_of

from bloodcells.data import corruptions
from bloodcells.reporting.tables import release


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_once):
    """A generated run with its weights."""
    folder = tmp_path_factory.mktemp("runs") / "linear"
    flags = ("--synthetic", "--folds", 2, "--epochs", 3, "--device", "cpu", "--save-weights")
    run_once("model_baseline.py", *flags, "--output", folder)
    return folder


def test_every_corruption_and_severity(run, trained, tmp_path):
    flags = ("--synthetic", "--device", "cpu", "--runs", trained, "--images", 64)
    outcome = run(
        "robustness.py", *flags, "--output", tmp_path, "--kinds", "noise", "motion", "noise"
    )
    assert outcome.code == 0, outcome
    assert complaints(tmp_path / "metrics.json") == []
    found = metrics_of(tmp_path)
    assert (found["split"], found["images"]) == ("test", 64)
    clean, *rows = found["rows"]
    assert (clean["corruption"], clean["severity"]) == (None, 0)
    assert [(row["corruption"], row["severity"]) for row in rows] == [
        (kind, severity) for kind in ("noise", "motion") for severity in corruptions.SEVERITIES
    ]
    assert all(len(row["accuracy"]["linear"]) == 2 for row in rows)  # a fold a value
    assert any(row["accuracy"] != clean["accuracy"] for row in rows)
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as saved:
        right = saved["answers_linear"] == saved["labels"]  # (rows, models, images)
    assert right.shape == (1 + len(rows), 2, 64)
    accuracies = [row["accuracy"]["linear"] for row in (clean, *rows)]
    np.testing.assert_allclose(right.mean(2), accuracies)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("metrics.json", "predictions.npz", "accuracy.png", "examples.png"),
    }


def test_a_corruption_of_one_s_own(trained, tmp_path, monkeypatch, run):
    """It is scored, drawn and put into the table, though nobody said what it is like."""
    name = tmp_path / "plots" / "cnn-robust"
    shutil.copytree(trained, name)
    mirror = (lambda images, *_: images[:, :, ::-1]), corruptions.SEVERITIES
    monkeypatch.setitem(corruptions.CORRUPTIONS, "mirror", mirror)
    flags = ("--synthetic", "--device", "cpu", "--runs", name, "--images", 16)
    outcome = run("robustness.py", *flags, "--output", tmp_path / "out", "--kinds", "mirror")
    assert outcome.code == 0, outcome
    found = metrics_of(tmp_path / "out")
    monkeypatch.setattr(release, "read_robustness", lambda plots: found)
    assert "\n| mirror |  | " in release.robustness(tmp_path)


def test_unchanged_images_score_as_the_run_itself(run, trained, tmp_path):
    flags = ("--synthetic", "--device", "cpu", "--runs", trained, "--images", 192)
    assert run("robustness.py", *flags, "--output", tmp_path, "--kinds", "noise").code == 0
    clean = metrics_of(tmp_path)["rows"][0]["accuracy"]["linear"]
    runs = metrics_of(trained)["runs"]
    np.testing.assert_allclose(clean, [row["test"]["accuracy"] for row in runs])


def test_bad_input(fails, trained, quick_run, tmp_path):
    flags = ("--synthetic", "--device", "cpu", "--output", tmp_path / "out")
    line = fails("robustness.py", *flags, "--runs", trained, "--kinds", "rain")
    assert "--kinds rain: no such corruption; the corruptions are defocus" in line
    assert "train it with --save-weights" in fails("robustness.py", *flags, "--runs", quick_run)
    missing = tmp_path / "missing"
    assert "no finished experiment" in fails("robustness.py", *flags, "--runs", missing)
    broken = shutil.copytree(trained, tmp_path / "broken")
    (broken / "weights-seed-0-fold-0.safetensors").write_bytes(b"x" * 100)
    assert "not this run's weights" in fails("robustness.py", *flags, "--runs", broken)
    change(broken, leaks_test_images=True)
    assert "trained on these test images" in fails("robustness.py", *flags, "--runs", broken)
    change(broken, leaks_test_images=False, dataset={"md5": "other"})
    assert "its data set is not the one here" in fails("robustness.py", *flags, "--runs", broken)


def test_the_seed_draws_the_images_and_their_corruptions(run, run_once, tmp_path, monkeypatch):
    seen, versions = [], corruptions.versions

    def spy(images, kinds, seed):
        seen.append((images, seed))
        return versions(images, kinds, seed)

    quick = ("--synthetic", "--folds", 2, "--epochs", 1, "--device", "cpu", "--save-weights")
    run_once("model_baseline.py", *quick, "--output", tmp_path / "linear")
    monkeypatch.setattr(corruptions, "versions", spy)
    flags = ("--synthetic", "--device", "cpu", "--runs", tmp_path / "linear", "--images", 16)
    for seed in (0, 1):
        more = ("--kinds", "noise", "--seed", seed, "--output", tmp_path / str(seed))
        outcome = run("robustness.py", *flags, *more)
        assert outcome.code == 0, outcome
    assert [seed for _, seed in seen] == [0, 0, 1, 1]
    assert (seen[0][0] != seen[2][0]).any()
