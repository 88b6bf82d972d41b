"""What the scripts write, through their own command lines, on generated images."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shared import QUICK, QUICK_OF
from torch import nn
from written import metrics_of

import models
from bloodcells.data import bloodmnist
from bloodcells.evaluation.prediction import predict as predict_probabilities
from bloodcells.reporting import results

FIGURES = ["class_recall", "confident_mistakes", "confusion_matrix", "learning_curves"]


def test_run_folder(quick_run):
    names = {path.name for path in quick_run.iterdir()} - {".turn.lock"}
    assert names == {
        "metrics.json",
        "history.csv",
        "predictions.npz",
        "config.toml",
        *(f"{name}.png" for name in FIGURES),
    }
    metrics = metrics_of(quick_run)
    assert metrics["dataset"]["synthetic"] is True
    assert metrics["dataset"]["counts"] == {"train": 480, "val": 96, "test": 192}
    assert metrics["model"] == {"name": "Baseline", "parameters": 18824}
    assert metrics["config"]["epochs"] == 1
    assert not {"output", "data_root", "config"} & metrics["config"].keys()
    assert metrics["environment"]["torch"]
    assert metrics["leaks_test_images"] is False
    assert [(run["seed"], run["fold"]) for run in metrics["runs"]] == [(0, 0), (0, 1)]
    for value in metrics["test"].values():
        assert value["low"] <= value["mean"] <= value["high"]
    values = [run["test"]["accuracy"] for run in metrics["runs"]]
    assert metrics["test"]["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert metrics["test"]["accuracy"]["std"] == pytest.approx(np.std(values, ddof=1))

    with np.load(quick_run / "predictions.npz") as saved:
        assert saved["probabilities"].dtype == np.float32
        assert saved["probabilities"].shape == (2, 192, 8)
        assert saved["labels"].shape == (192,)
        assert str(saved["split"]) == "test"
        accuracy = (saved["probabilities"].argmax(2) == saved["labels"]).mean(1)
    np.testing.assert_allclose(accuracy, values)

    with (quick_run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["fold"], row["epoch"]) for row in rows] == [("0", "1"), ("1", "1")]
    assert not [name for name in rows[0] if "test" in name]


@pytest.mark.parametrize("script", ["model_baseline.py", "model_cnn.py"])
def test_saved_config_repeats_the_run(run, tmp_path, script):
    folders = tmp_path / "first", tmp_path / "again"
    assert run(script, *QUICK_OF[script], "--seed", "7", "--output", folders[0]).code == 0
    config = folders[0] / "config.toml"
    assert run(script, "--config", config, "--output", folders[1]).code == 0
    first, again = (metrics_of(f) for f in folders)
    for metrics in (first, again):
        trained = sum(row.pop("train_seconds") for row in metrics["runs"])
        assert 0 < trained < metrics.pop("command_seconds")
        assert metrics["environment"].pop("command").startswith(f"python {script} --")
        assert all(row.pop("machine_gflops") > 0 for row in metrics["runs"])
    assert first == again


@pytest.mark.parametrize("protocol", ["cross-validation", "as-published"])
def test_cnn_console(run, tmp_path, protocol):
    outcome = run("model_cnn.py", *QUICK, "--protocol", protocol, "--output", tmp_path / "out")
    assert outcome.code == 0
    lines = [line for line in outcome.out.splitlines() if not line.startswith("also training")]
    assert lines[0] == "ConvNet on cpu; data: generated images, not real cells"
    assert lines[1].startswith("run 1/2 epoch 1/1: training loss ")
    assert lines[-1] == f"wrote {tmp_path / 'out'}"
    assert "NOTE generated images: not a result." in lines
    leaks = protocol == "as-published"
    assert any("trained on" in line for line in lines) == leaks
    metrics = metrics_of(tmp_path / "out")
    assert metrics["leaks_test_images"] == leaks
    assert [row["test"] is None for row in metrics["runs"]] == [leaks, False]
    assert (metrics["test"]["accuracy"]["std"] is None) == leaks


def test_official_protocol_with_every_ingredient(run, tmp_path):
    """The whole recipe beyond the paper's, long enough for focus, on generated images."""
    flags = ["--synthetic", "--protocol", "official", "--runs", "2", "--epochs", "3"]
    flags += ["--model", "CellNet", "--optimizer", "muon", "--schedule", "triangle", "--dihedral"]
    flags += ["--shift", "2", "--cutout", "6", "--label-smoothing", "0.1", "--weight-decay", "0.05"]
    flags += ["--focus", "0.5", "--widths", "4", "8", "8", "--views", "8", "--save-weights"]
    outcome = run("model_cnn.py", *flags, "--output", tmp_path)
    assert outcome.code == 0
    metrics = metrics_of(tmp_path)
    assert [(row["seed"], row["fold"]) for row in metrics["runs"]] == [(0, None), (1, None)]
    with np.load(tmp_path / "predictions.npz") as saved:
        eight, one = saved["probabilities"], saved["probabilities_one_view"]
        labels = saved["labels"]
        held_out, held_out_labels = saved["val_probabilities"], saved["val_labels"]
    assert eight.shape == one.shape == (2, 192, 8)
    assert (eight != one).any()
    assert (held_out.shape, held_out_labels.shape) == ((2, 96, 8), (96,))
    for number, row in enumerate(metrics["runs"]):
        accuracy = (held_out[number].argmax(1) == held_out_labels).mean()
        assert row["val"]["accuracy"] == pytest.approx(accuracy)
        weights = load_file(tmp_path / f"weights-seed-{number}.safetensors")
        model = models.build("CellNet", 28, [4, 8, 8])
        model.load_state_dict(weights)
        images = torch.from_numpy(bloodmnist.load(None, 28, synthetic=True).test.images)
        again = predict_probabilities(model, images, views=8)
        np.testing.assert_allclose(again, eight[number], atol=1e-5)
    for name, probabilities in (
        ("test", eight),
        ("test_one_view", one),
        ("test_ensemble", eight.mean(0, keepdims=True)),
    ):
        accuracy = (probabilities.argmax(2) == labels).mean()
        assert metrics[name]["accuracy"]["mean"] == pytest.approx(accuracy)
    assert "accuracy, one view" in outcome.out
    assert "accuracy, ensemble" in outcome.out
    held_out = np.mean([row["val"]["accuracy"] for row in metrics["runs"]])
    assert f"held-out accuracy, for choosing: {held_out:.4f} +- " in outcome.out
    assert ", held-out accuracy (one view) 0." in outcome.out  # of each epoch


class Twice(nn.Module):
    """A network that uses a layer twice, by two names."""

    def __init__(self, in_channels=3, num_classes=8, image_size=28):
        super().__init__()
        layer = nn.Conv2d(in_channels, 3, 3, padding=1)
        self.body = nn.Sequential(layer, nn.ReLU(), layer, nn.Flatten())
        self.last = nn.Linear(3 * image_size**2, num_classes)

    def forward(self, x):
        return self.last(self.body(x))


def test_a_layer_that_is_used_twice_is_saved(run, tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, "Twice", Twice)
    flags = ("--model", "Twice", "--save-weights", "--output", tmp_path)
    outcome = run("model_cnn.py", *QUICK, *flags)
    assert outcome.code == 0, outcome
    weights = load_file(tmp_path / "weights-seed-0-fold-0.safetensors")
    assert torch.equal(weights["body.0.weight"], weights["body.2.weight"])


def test_best_recipe_on_larger_images(run, tmp_path):
    flags = ["--config", "cnn-best", "--synthetic", "--size", 64, "--widths", 4, 8, 8]
    flags += ["--epochs", 2, "--runs", 1, "--views", 1, "--output", tmp_path]
    assert run("model_cnn.py", *flags).code == 0
    metrics = metrics_of(tmp_path)
    assert metrics["dataset"]["size"] == 64
    assert metrics["config"]["widths"] == [4, 8, 8]
    assert 0 < metrics["test"]["accuracy"]["mean"] <= 1


@pytest.mark.usefixtures("drawn_figures")
def test_nothing_held_out(run, tmp_path):
    """Trained on validation too: results of the test split alone, resumed or not."""
    flags = ["--synthetic", "--epochs", "1", "--device", "cpu", "--output", tmp_path]
    flags += ["--protocol", "train-and-validation", "--runs", "2"]
    assert run("model_cnn.py", *flags, "--only-seed", "1").code == 0
    outcome = run("model_cnn.py", *flags, "--resume")
    assert outcome.code == 0
    assert "held-out" not in outcome.out
    metrics = metrics_of(tmp_path)
    assert [row["val"] for row in metrics["runs"]] == [None, None]
    assert metrics["test_ensemble"]["accuracy"]["mean"] > 0
    with np.load(tmp_path / "predictions.npz") as saved:
        assert set(saved) == {"labels", "split", "probabilities"}
    assert "val_loss" not in (tmp_path / "history.csv").read_text()
    assert (tmp_path / "learning_curves.png").stat().st_size > 5_000


@pytest.mark.parametrize("kind", ["pdf", "svg"])
@pytest.mark.usefixtures("drawn_figures")
def test_figure_format(run, quick_run, tmp_path, kind):
    shutil.copytree(quick_run, tmp_path, dirs_exist_ok=True)  # earlier results, with figures
    (tmp_path / "mine.png").touch()
    flags = [*QUICK, "--figure-format", kind, "--output", tmp_path, "--protocol", "as-published"]
    assert run("model_baseline.py", *flags, "--overwrite").code == 0
    assert {path.stem for path in tmp_path.glob(f"*.{kind}")} == set(FIGURES)
    assert {path.name for path in tmp_path.glob("*.png")} == {"mine.png"}
    if kind == "pdf":
        assert not any(b"/Type3" in path.read_bytes() for path in tmp_path.glob("*.pdf"))
    else:
        for name in FIGURES:
            text = (tmp_path / f"{name}.svg").read_text()
            assert "generated images: not a result" in text
            shows_test = name != "learning_curves"
            assert ("as published: most of these test images were trained on" in text) == shows_test


def test_weights_of_an_earlier_run_do_not_stay(run, tmp_path):
    flags = ["--synthetic", "--epochs", "1", "--folds", "2", "--output", tmp_path]
    assert run("model_baseline.py", *flags, "--save-weights").code == 0
    names = [f"weights-seed-0-fold-{fold}.safetensors" for fold in (0, 1)]
    assert sorted(path.name for path in tmp_path.glob("weights-*")) == names
    runs = metrics_of(tmp_path)["runs"]
    assert [row["weights"] for row in runs] == names
    assert run("model_baseline.py", *flags, "--overwrite").code == 0
    assert not list(tmp_path.glob("weights-*"))


def test_a_result_that_cannot_be_written_leaves_the_last_one(run, quick_run, tmp_path, monkeypatch):
    for path in quick_run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bloodcells.reporting.figures.training.class_recall", full)
    flags = [*QUICK, "--seed", "1", "--output", tmp_path]
    outcome = run("model_baseline.py", *flags, "--overwrite")
    assert outcome.code == 2
    assert "No space left on device" in outcome.err
    files = (path for path in tmp_path.iterdir() if path.is_file() and path.name in before)
    assert {path.name: path.read_bytes() for path in files} == before
    monkeypatch.undo()
    outcome = run("model_baseline.py", *flags, "--resume")  # once there is room again
    assert (outcome.code, outcome.out.count(" epoch ")) == (0, 0)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (64, "batch 2 of 5, at a learning rate of 1e+30, has a loss of nan; lower --lr"),
        (
            100000,  # the only step ruins the weights, and its loss is of before
            "after epoch 1, whose last batch had a learning rate of 1e+30, the loss on held-out "
            "images is nan; lower --lr",
        ),
    ],
)
def test_diverged_training_is_no_result(fails, tmp_path, batch, says):
    flags = [*QUICK, "--lr", "1e30", "--batch-size", batch, "--output", tmp_path]
    assert f"training diverged: {says}" in fails("model_cnn.py", *flags)
    assert not (tmp_path / "metrics.json").exists()


def test_weights_that_the_last_step_ruined_are_no_result(fails, tmp_path):
    flags = ("--synthetic", "--protocol", "train-and-validation", "--runs", 1, "--epochs", 1)
    flags += ("--batch-size", 1000, "--lr", "1e38", "--output", tmp_path)
    assert "training diverged: its predictions are not finite" in fails("model_cnn.py", *flags)
    assert not (tmp_path / "metrics.json").exists()


def test_the_preset_s_own_experiment_is_offered_for_comparison(tmp_path):
    base, other = tmp_path / "cnn-paper", tmp_path / "mine"
    content = {"dataset": {"md5": "a"}, "config": {"protocol": "official"}}
    for folder in (base, other):
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(content))
    assert results.comparable(base, other, content)
    assert not results.comparable(base, base, content)
    assert not results.comparable(tmp_path / "none", other, content)
    assert not results.comparable(base, other, {**content, "dataset": {"md5": "b"}})
    assert not results.comparable(base, other, {**content, "config": {"protocol": "x"}})
