"""Runs that are killed, stopped, spread over processes: they end as if nothing had happened."""

import itertools
import os

import numpy as np
import pytest
import torch
import warm
from disk_faults import EVERY
from interrupted_runs import SMALL, same
from shared import QUICK, ROOT
from torch import nn
from written import probabilities_of

import model_cnn
import models
from bloodcells.data.folds import Fold
from bloodcells.training import session
from bloodcells.training.record import record_of

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_killed_again_and_again(whole, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    runs = tmp_path / "runs"
    command = ("tests/forked_runs.py", notes, runs, *SMALL, "--resume")
    done = warm.run(*command, cwd=ROOT, seconds=600)
    assert done.returncode == 0, done.stderr
    at_random, within_a_write, resumed = map(int, done.stdout.split()[-3:])
    assert at_random == within_a_write == (10 if EVERY else 3)
    assert resumed >= 1
    for run in runs.iterdir():
        same(whole, run)


def test_a_network_with_other_outputs_than_classes(fails, tmp_path, monkeypatch):
    monkeypatch.setattr(model_cnn, "LABELS", {"classes": tuple("abc")})
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path)
    assert "has the shape (2, 3), not a tensor of shape (2, 8): one number for each class" in line
    assert not (tmp_path / "checkpoint").exists()
    monkeypatch.setattr(models.CellNet, "forward", lambda net, x: (net.features(x), x))
    line = fails("model_cnn.py", "--config", "cnn-fast-15", "--synthetic", "--output", tmp_path)
    assert "CellNet: its output for two images is a tuple, not a tensor of shape (2, 8)" in line


@pytest.mark.parametrize("epoch", [1, 3, 4])  # within the first model, at its end, in the second
def test_stopped_and_resumed(run, whole, stopped, tmp_path, epoch):
    outcome = stopped(tmp_path, epoch)
    command = f"python model_cnn.py {' '.join(map(str, SMALL))} --output {tmp_path} --resume"
    assert outcome.err.strip() == f"stopped; resume with: {command}"
    assert not (tmp_path / "metrics.json").exists()
    resumed = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert resumed.code == 0, resumed
    assert resumed.out.count(" epoch ") == 6 - epoch  # no epoch twice
    same(whole, tmp_path)


def test_paper_recipe_resumes_too(run, stopped, tmp_path):
    """Adam, and dropout, which draws from torch's own random numbers."""
    flags = ("--synthetic", "--device", "cpu", "--folds", 2, "--epochs", 2)
    assert run("model_cnn.py", *flags, "--output", tmp_path / "whole").code == 0
    stopped(tmp_path / "b", 1, flags)
    assert run("model_cnn.py", *flags, "--output", tmp_path / "b", "--resume").code == 0
    same(tmp_path / "whole", tmp_path / "b")


def test_checkpoint_less_often(run, whole, stopped, tmp_path, monkeypatch):
    path, there, score = tmp_path / "checkpoint" / "seed-0.pt", [], model_cnn.score
    monkeypatch.setattr(model_cnn, "score", lambda *g: there.append(path.exists()) or score(*g))
    flags = (*SMALL, "--checkpoint-every", 3)
    stopped(tmp_path, 2, flags)
    assert (there, path.exists()) == ([False, False], True)  # at the stop alone
    run("model_cnn.py", *flags, "--output", tmp_path, "--resume")
    same(whole, tmp_path)


def test_seeds_spread_over_processes(run, whole, tmp_path):
    first = run("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed", 1)
    assert "done; once all models are trained, run: python model_cnn.py" in first.out, first
    assert not (tmp_path / "metrics.json").exists()
    last = run("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed", 0)
    assert last.code == 0, last
    same(whole, tmp_path)


def test_two_that_finish_together(run, whole, tmp_path, monkeypatch):
    flags = ("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed")
    finish = session.Session.finish

    def the_other_is_faster(self, *rest):
        finish(self, *rest)
        monkeypatch.setattr(session.Session, "finish", finish)
        assert run(*flags, 0).code == 0

    monkeypatch.setattr(session.Session, "finish", the_other_is_faster)
    outcome = run(*flags, 1)
    assert outcome.code == 0, outcome
    assert "another process wrote the results" in outcome.out
    same(whole, tmp_path)


def test_an_edited_script_that_writes_no_results_keeps_its_models(run, tmp_path, monkeypatch):
    flags = ("model_cnn.py", *SMALL, "--output", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(model_cnn, "save_results", lambda *_: None)
        outcome = run(*flags)
    assert outcome.out.endswith(
        f"{tmp_path / 'metrics.json'} was not written, so the trained models stay in "
        f"{tmp_path / 'checkpoint'}\n"
    ), outcome
    resumed = run(*flags, "--resume")
    assert resumed.code == 0, resumed
    assert " epoch " not in resumed.out
    assert not (tmp_path / "checkpoint").exists()


def test_resumed_with_other_threads(run, stop_after, quick_run, tmp_path):
    before = torch.get_num_threads()
    flags = ("model_baseline.py", *QUICK, "--output", tmp_path)
    with stop_after(session.Session, "finish"):
        assert run(*flags).code == 130
    outcome = run(*flags, "--resume", "--threads", before % 2 + 1)
    torch.set_num_threads(before)
    assert outcome.code == 0, outcome
    np.testing.assert_allclose(probabilities_of(tmp_path), probabilities_of(quick_run), atol=1e-3)


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (lambda epoch: {"grad_norm": 1.0} if epoch > 1 else {}, "grad_norm"),
        (lambda epoch: {"grad_norm": 1.0} if epoch == 1 else {}, "grad_norm"),
        (lambda epoch: {"grad_norm": [1.0, 2.0]}, "[1.0, 2.0]"),
        (lambda epoch: {"grad_norm": torch.ones(2)}, "tensor([1., 1.])"),
    ],
)
def test_a_column_of_some_epochs_ends_training_at_once(fails, monkeypatch, tmp_path, extra, what):
    """Else its values get into other columns, or no figure can be drawn after hours."""
    real, epochs = model_cnn.train_epoch, itertools.count(1)
    monkeypatch.setattr(model_cnn, "train_epoch", lambda *a: real(*a) | extra(next(epochs)))
    flags = ("--synthetic", "--device", "cpu", "--folds", 2, "--epochs", 3)
    flags += ("--model", "CellNet", "--widths", 4, 4, 8)
    for again in ((), ("--resume",)):
        line = fails("model_cnn.py", *flags, "--output", tmp_path, *again)
        assert what in line
        assert "every epoch's needs a number for each of train_seconds, train_loss" in line


def test_a_record_has_the_seconds_of_all_epochs():
    history = [
        {"train_seconds": 2.0, "machine_gflops": 3.0},
        {"train_seconds": 5.0, "machine_gflops": 5.0},
    ]
    fold = Fold(seed=0, fold=None, train=np.arange(0), held_out=None, scored=False)
    found = record_of(fold, nn.Linear(1, 1), history, {})
    assert (found.train_seconds, found.machine_gflops) == (7, 4)
