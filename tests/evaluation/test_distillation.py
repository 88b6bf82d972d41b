"""Labels softened by a finished experiment's models, and what such an experiment refuses."""

import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import QUICK

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
    for name, more in (("alone", ()), ("student", ("--teacher", taught))):
        outcome = run("model_cnn.py", *FLAGS, *SMALL, *more, "--output", tmp_path / name)
        assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert metrics["config"]["teacher"] == "teacher"
    assert 'teacher = "teacher"' in (tmp_path / "student" / "config.toml").read_text()
    alone, student = (
        np.load(tmp_path / name / "predictions.npz")["probabilities"]
        for name in ("alone", "student")
    )
    assert not np.allclose(alone, student)
    np.testing.assert_allclose(alone.sum(2), 1, atol=1e-5)


def test_another_teacher_of_the_same_name_is_refused_at_a_resume(
    run, fails, taught, tmp_path, monkeypatch
):
    teacher = tmp_path / "teacher"
    shutil.copytree(taught, teacher)
    command = ("model_cnn.py", *FLAGS, *SMALL, "--teacher", teacher, "--output", tmp_path / "run")

    def stop(*rest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "finish", stop)
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
    record = json.loads((teacher / "metrics.json").read_text())
    for damage in ({"widths": "wide"}, {"widths": [8, 8, 8]}, {"size": None}, {"labels": "odd"}):
        damaged = record | {"config": record["config"] | damage}
        (teacher / "metrics.json").write_text(json.dumps(damaged))
        out = ("--teacher", teacher, "--output", tmp_path / "run")
        line = fails("model_cnn.py", *FLAGS, *SMALL, *out)
        assert "not this run's weights" in line or "trained with labels odd" in line


def test_ctrl_c_before_the_first_step_of_a_taught_model(run, taught, tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "_requested", True)
    command = ("model_cnn.py", *FLAGS, *SMALL, "--teacher", taught, "--output", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "predict", lambda *rest: pytest.fail("it went on"))
        assert run(*command).code == 130


def test_a_teacher_without_weights(fails, run_once, tmp_path):
    run_once("model_cnn.py", *FLAGS, "--no-save-weights", "--output", tmp_path / "bare")
    line = fails(
        "model_cnn.py", *FLAGS, "--teacher", tmp_path / "bare", "--output", tmp_path / "run"
    )
    assert "has no weights; train it with --save-weights" in line
