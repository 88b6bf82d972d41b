"""Labels softened by a finished experiment's models, and what such an experiment refuses."""

import shutil
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
from shared import QUICK
from written import change, metrics_of, probabilities_of

from bloodcells import ROOT
from bloodcells.cli import scripts
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Images, Labelled
from bloodcells.evaluation import distillation
from bloodcells.evaluation.distillation import Teacher
from bloodcells.evaluation.prediction import predict
from bloodcells.inference.networks import load_network
from bloodcells.tracking import run_folder
from bloodcells.training import interruption
from bloodcells.training.session import Session

FLAGS = ("--synthetic", "--protocol", "official", "--runs", "2", "--epochs", "1", "--device", "cpu")
pytestmark = pytest.mark.usefixtures("no_figures")
SMALL = ("--model", "CellNet", "--widths", "4", "4", "8")


@pytest.fixture(scope="module")
def taught(tmp_path_factory, run_once):
    """A run folder of two small models with their weights."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    run_once("model_cnn.py", *FLAGS, *SMALL, "--save-weights", "--output", folder)
    return folder


def test_labels_are_half_the_teacher_s_answer(taught):
    args = Namespace(teacher=taught, protocol="official", labels="classes", precision="float32")
    images = torch.randint(256, (16, 28, 28, 3), dtype=torch.uint8)
    train = Labelled(Images([images]), torch.arange(16) % 8)
    teacher = Teacher(args, bloodmnist.load(synthetic=True))
    soft = teacher.soften(train)
    assert soft.images is train.images
    assert soft.labels.shape == (16, 8)
    torch.testing.assert_close(soft.labels.sum(1), torch.ones(16))
    run = run_folder.read(taught)
    answers = [predict(load_network(run, row["weights"]), images, 8) for row in run.metrics["runs"]]
    expected = (torch.eye(8)[train.labels] + torch.stack(answers).mean(0)) / 2
    torch.testing.assert_close(soft.labels, expected)
    assert teacher.soften(train).labels is soft.labels  # computed once


def test_a_taught_run(run, taught, tmp_path):
    flags = ("--teacher", taught, "--output", tmp_path / "student")
    outcome = run("model_cnn.py", *FLAGS, *SMALL, *flags)
    assert outcome.code == 0, outcome.err
    metrics = metrics_of(tmp_path / "student")
    assert metrics["config"]["teacher"] == "teacher"
    assert 'teacher = "teacher"' in (tmp_path / "student" / "config.toml").read_text()
    alone, student = map(probabilities_of, (taught, tmp_path / "student"))
    assert not np.allclose(alone, student)
    np.testing.assert_allclose(alone.sum(2), 1, atol=1e-5)


def test_a_teacher_is_recorded_by_its_name(monkeypatch, taught):
    monkeypatch.chdir(taught)
    flags = ["model_cnn.py", "--config", "cnn-distilled", "--synthetic", "--teacher", "."]
    monkeypatch.setattr(sys, "argv", flags)
    assert scripts.parse_cnn(str(ROOT / "model_cnn.py")).teacher.name == "teacher"


def test_another_teacher_of_the_same_name_is_refused_at_a_resume(
    run, fails, taught, tmp_path, stop_after
):
    teacher = tmp_path / "teacher"
    shutil.copytree(taught, teacher)
    command = ("model_cnn.py", *FLAGS, *SMALL, "--teacher", teacher, "--output", tmp_path / "run")

    with stop_after(Session, "finish"):
        assert run(*command).code == 130
    first, second = sorted(teacher.glob("weights-*"))
    shutil.copy(second, first)
    assert "different teacher's weights" in fails(*command, "--resume")


def test_what_cannot_teach(fails, quick_run, taught, tmp_path):
    out = ("--output", tmp_path / "run")
    line = fails("model_cnn.py", *QUICK, "--teacher", taught, *out)
    assert "--teacher" in line
    assert "needs --protocol official" in line
    assert "no finished experiment" in fails(
        "model_cnn.py", *FLAGS, "--teacher", tmp_path / "none", *out
    )
    assert "trained with protocol cross-validation, not official" in fails(
        "model_cnn.py", *FLAGS, "--teacher", quick_run, *out
    )
    assert "its data set is not the one here: size" in fails(
        "model_cnn.py", *FLAGS, "--size", "64", "--teacher", taught, *out
    )
    assert "trained with labels classes, not stages" in fails(
        "model_cnn.py", *FLAGS, "--labels", "stages", "--teacher", taught, *out
    )


def test_a_teacher_whose_record_is_damaged(fails, taught, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(taught, teacher)
    config = metrics_of(teacher)["config"]
    for damage in ({"widths": "wide"}, {"widths": [8, 8, 8]}, {"size": None}, {"labels": "odd"}):
        change(teacher, config=config | damage)
        out = ("--teacher", teacher, "--output", tmp_path / "run")
        line = fails("model_cnn.py", *FLAGS, *SMALL, *out)
        assert "not this run's weights" in line or "trained with labels odd" in line


def test_ctrl_c_before_the_first_step_of_a_taught_model(run, taught, tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "_requested", True)
    command = ("model_cnn.py", *FLAGS, *SMALL, "--teacher", taught, "--output", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "predict", lambda *rest: pytest.fail("it went on"))
        assert run(*command).code == 130


def test_a_teacher_without_weights(fails, taught, tmp_path):
    bare = shutil.copytree(taught, tmp_path / "bare")
    change(bare, runs=[row | {"weights": None} for row in metrics_of(bare)["runs"]])
    flags = ("--teacher", bare, "--output", tmp_path / "run")
    line = fails("model_cnn.py", *FLAGS, *flags)
    assert "has no weights; train it with --save-weights" in line
