"""How the search trains the models of a trial, with made-up losses."""

import csv
import itertools
from argparse import Namespace
from types import SimpleNamespace

import pytest

import model_parameter_tuning
from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError
from bloodcells.search.trials import COLUMNS

GRID = """
base = "cnn-paper"
model = "Baseline"
synthetic = true
folds = 2
[space]
batch-size = [64, 128]
lr = [0.001, 0.1]
"""


@pytest.fixture
def train(monkeypatch):
    """Trains a model with these held-out losses; returns its history, and how cores were shared."""

    def call(*losses):
        left, shared = iter(losses), []
        row = {"train_loss": 1.0, "train_accuracy": 0.5, "lr": 0.1}
        for name, stand_in in {
            "set_up": lambda *_: (None,) * 4,
            "train_epoch": lambda *_: dict(row),
            "score": lambda *_: {"val_loss": next(left), "val_accuracy": 0.5},
        }.items():
            monkeypatch.setattr(model_parameter_tuning, name, stand_in)
        args = Namespace(patience=2, threshold=0.01, threads=3)
        beside = SimpleNamespace(share_cores=shared.append)
        recipe = Recipe(epochs=len(losses))
        return model_parameter_tuning.train_until_it_stops(
            args, recipe, None, None, None, beside
        ), shared

    return call


def test_a_model_stops_early_and_shares_the_cores_each_epoch(train):
    found, shared = train(1.0, 0.9, 0.9, 0.9, 0.5)
    assert found["val_loss"] == [1.0, 0.9, 0.9, 0.9]
    assert not found["diverged"]
    assert shared == [3] * 4


def test_a_model_that_diverges_ends_there(train):
    found, _ = train(1.0, float("nan"), 0.5)
    assert found["val_loss"] == [1.0]
    assert found["diverged"]


def test_a_search_goes_on_in_a_renamed_folder_and_failures_are_not_called_pruned(
    run, tmp_path, monkeypatch
):
    calls = itertools.count(1)

    def train(*_):
        if next(calls) % 2 == 0:  # the second model of each trial
            raise UserError("too few images")
        return {name: [0.5] * 5 for name in COLUMNS} | {"diverged": False, "seconds": 1.0}

    monkeypatch.setattr(model_parameter_tuning, "train_until_it_stops", train)
    (tmp_path / "preset.toml").write_text(GRID)
    flags = ("--config", tmp_path / "preset.toml", "--output")
    outcome = run("model_parameter_tuning.py", *flags, tmp_path / "out")
    assert outcome.out.count("not trained: too few images, ") == 4
    assert "pruned" not in outcome.out
    assert outcome.code == 2
    (tmp_path / "out").rename(tmp_path / "renamed")
    outcome = run("model_parameter_tuning.py", *flags, tmp_path / "renamed")
    assert "min left" not in outcome.out  # all trials are there
    assert "no trial produced a result: too few images" in outcome.err


def test_settings_whose_domain_randomisation_would_change_nothing_are_not_trained(run, tmp_path):
    space = "[space]\nbatch-size = [8, 64]"
    (tmp_path / "preset.toml").write_text(
        f'base = "cnn-paper"\nmodel = "Baseline"\nsynthetic = true\nfolds = 2\nepochs = 1\n'
        f"domain-randomisation = 0.05\n{space}\n"
    )
    flags = ("--config", tmp_path / "preset.toml", "--output", tmp_path / "out")
    outcome = run("model_parameter_tuning.py", *flags)
    assert outcome.code == 0, outcome
    assert "batch_size 8: not trained: --domain-randomisation 0.05: of 8 images" in outcome.out
    assert "batch_size 64: accuracy" in outcome.out


def test_what_is_far_behind_is_not_trained_on_the_other_fold(run, tmp_path, monkeypatch):
    accuracies = itertools.chain([0.9, 0.9], itertools.repeat(0.2))

    def train(*_):
        value = next(accuracies)
        return {name: [value] * 5 for name in COLUMNS} | {"diverged": False, "seconds": 1.0}

    monkeypatch.setattr(model_parameter_tuning, "train_until_it_stops", train)
    (tmp_path / "preset.toml").write_text(GRID)
    flags = ("--config", tmp_path / "preset.toml", "--output", tmp_path / "out")
    outcome = run("model_parameter_tuning.py", *flags)
    assert outcome.code == 0, outcome
    assert outcome.out.count("pruned after 1 of 2 models") == 3
    with (tmp_path / "out" / "trials.csv").open() as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert states == ["complete"] + ["pruned"] * 3
