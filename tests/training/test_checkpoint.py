"""Checkpoints: what they keep, and when they are refused."""

import csv
import errno
import io
import itertools
import os

import numpy as np
import pytest
import torch
from interrupted_runs import SMALL, same

import model_cnn
from bloodcells.evaluation import prediction
from bloodcells.training import checkpoint, checkpoint_folder

pytestmark = pytest.mark.usefixtures("no_figures")


def test_full_disk_leaves_the_last_state(run, fails, whole, tmp_path, monkeypatch):
    trained, train_epoch, fsync = [], model_cnn.train_epoch, os.fsync

    def full(number):
        if len(trained) == 3:  # from the end of the third epoch
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(model_cnn, "train_epoch", lambda *g: trained.append(1) or train_epoch(*g))
        patch.setattr(os, "fsync", full)
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path)
    assert "No space left on device; the previous file is unchanged" in line
    resumed = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert (resumed.code, resumed.out.count(" epoch ")) == (0, 4)  # of six: two were kept
    same(whole, tmp_path)


class Hostile:
    """A pickle that would leave a file if it were run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_damaged_and_hostile_checkpoints(fails, stopped, tmp_path):
    stopped(tmp_path, 2)
    path = tmp_path / "checkpoint" / "seed-0.pt"
    good = path.read_bytes()
    torch.save({"network": Hostile(tmp_path / "executed")}, path)
    hostile = path.read_bytes()
    content = torch.load(io.BytesIO(good), weights_only=True)
    other = checkpoint.packed({**content, "network": {}}, content["mark"])
    elsewhere = checkpoint.packed(content, "another run's")
    for bad in (good[: len(good) // 2], b"", b"text", hostile, other, elsewhere):
        path.write_bytes(bad)
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
        assert "seed-0.pt: damaged, or of another experiment" in line
        assert path.read_bytes() == bad
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "function", ["torch.load", "bloodcells.training.optim.Muon.load_state_dict"]
)
def test_no_memory_is_no_damage(fails, stopped, tmp_path, monkeypatch, function):
    stopped(tmp_path, 2)

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(function, full)
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert "out of memory; " in line
    assert "delete" not in line


def test_an_error_keeps_the_finished_epochs(run, fails, whole, tmp_path, monkeypatch):
    calls, real = itertools.count(1), model_cnn.train_epoch

    def failing(*given):
        if next(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*given)

    flags = (*SMALL, "--output", tmp_path, "--checkpoint-every", 4)
    with monkeypatch.context() as patch:
        patch.setattr(model_cnn, "train_epoch", failing)
        assert "lower --batch-size" in fails("model_cnn.py", *flags)
    trained = []
    monkeypatch.setattr(model_cnn, "train_epoch", lambda *g: trained.append(1) or real(*g))
    assert run("model_cnn.py", *flags, "--resume").code == 0
    assert len(trained) == 4  # of six
    same(whole, tmp_path)


def test_diverged_training_keeps_the_last_state(run, stopped, tmp_path, monkeypatch):
    stopped(tmp_path, 2)
    kept = (tmp_path / "checkpoint" / "seed-0.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "loss_and_accuracy", lambda *_: (float("nan"), 0.1))
        outcome = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert "training diverged: after epoch 3, whose last batch had a learning rate" in outcome.err
    assert "the loss on held-out images is nan; lower --lr" in outcome.err
    assert (tmp_path / "checkpoint" / "seed-0.pt").read_bytes() == kept


def test_numbers_of_numpy_and_torch_survive_a_checkpoint(run, stopped, tmp_path, monkeypatch):
    """A script may add columns to its history, of whatever type."""
    train_epoch = model_cnn.train_epoch

    def with_more(*args):
        return train_epoch(*args) | {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": 3}

    monkeypatch.setattr(model_cnn, "train_epoch", with_more)
    stopped(tmp_path, 1)
    outcome = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert outcome.code == 0, outcome
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert {(row["a"], row["b"], row["c"]) for row in rows} == {("0.5", "2.0", "3")}


def test_a_file_that_another_process_just_renamed_is_no_stranger(tmp_path):
    assert checkpoint_folder.is_ours(tmp_path / "seed-0.pt.8937.part")
    assert not checkpoint_folder.is_ours(tmp_path / "notes.txt")
    (tmp_path / "seed-0.pt").mkdir()
    assert not checkpoint_folder.is_ours(tmp_path / "seed-0.pt")


def test_a_finished_run_whose_checkpoints_cannot_be_deleted(tmp_path, monkeypatch, capsys):
    folder = checkpoint_folder.CheckpointFolder(tmp_path, ["seed-0"], {})

    def refused(path, missing_ok=False):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refused)
    folder.result.touch()
    folder.end()
    said = capsys.readouterr().out
    assert said == f"{folder.path} could not be removed: Permission denied; it can be deleted\n"
