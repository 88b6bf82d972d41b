"""--tensorboard, --quiet and the progress bar: what is shown of a training, and changes nothing."""

import csv
import io

import numpy as np
import pytest
from shared import QUICK, QUICK_CNN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bloodcells.tracking import run_folder
from bloodcells.training.progress import Progress

FLAGS = (*QUICK, "--epochs", "2", "--quiet")
pytestmark = pytest.mark.usefixtures("no_figures")


def curves(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def test_curves_and_images(run, tmp_path):
    recipe = (
        *QUICK_CNN,
        "--epochs",
        "2",
        "--quiet",
        "--dihedral",
        "--shift",
        "2",
        "--domain-randomisation",
        "0.5",
    )
    for name, flags in (("with", ("--tensorboard",)), ("without", ())):
        outcome = run("model_cnn.py", *recipe, *flags, "--output", tmp_path / name)
        assert outcome.code == 0, outcome
    one, other = (run_folder.read(tmp_path / name) for name in ("with", "without"))
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert not (tmp_path / "without" / "tensorboard").exists()
    with (tmp_path / "with" / "history.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == "1"]
    found = curves(tmp_path / "with" / "tensorboard" / "seed-0-fold-1")
    for column in ("train_loss", "val_accuracy", "lr"):
        values = {event.step: event.value for event in found.Scalars(column)}
        expected = {int(row["epoch"]): float(row[column]) for row in rows}
        assert values == pytest.approx(expected)
    norms = [event.value for event in found.Scalars("gradient_norm_of_last_batch")]
    assert len(norms) == 2
    assert min(norms) > 0
    (images,) = found.Tags()["images"]
    assert images == "training images"
    assert found.Images(images)[0].width > 28  # a montage


def test_an_experiment_that_begins_anew_replaces_its_curves(run, tmp_path):
    flags = (*FLAGS, "--tensorboard", "--output", tmp_path)
    for _ in range(2):
        assert run("model_baseline.py", *flags, "--overwrite").code == 0
    found = curves(tmp_path / "tensorboard" / "seed-0-fold-0")
    assert [event.step for event in found.Scalars("train_loss")] == [1, 2]


def test_an_experiment_of_fewer_models_leaves_no_older_curves(run, tmp_path):
    run("model_baseline.py", *FLAGS, "--tensorboard", "--output", tmp_path)
    assert (tmp_path / "tensorboard" / "seed-0-fold-1").is_dir()
    assert run("model_baseline.py", *FLAGS, "--output", tmp_path, "--overwrite").code == 0
    assert not (tmp_path / "tensorboard").exists()


def test_without_the_package(fails, tmp_path, uninstalled):
    uninstalled("torch.utils.tensorboard")
    line = fails("model_baseline.py", *FLAGS, "--tensorboard", "--output", tmp_path)
    assert "pip install -r requirements-tensorboard.txt" in line


def test_quiet(run, tmp_path):
    outcome = run("model_baseline.py", *FLAGS, "--output", tmp_path)
    assert "epoch 1/2" not in outcome.out
    assert outcome.err == ""
    loud = run("model_baseline.py", *FLAGS[:-1], "--output", tmp_path, "--overwrite")
    assert loud.out.count("epoch 2/2") == 2


def test_the_time_left_is_that_of_the_mean_epoch(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    with Progress([10, 10]) as progress:
        progress.bar.start_t -= 1000  # before the first model, a teacher predicts
        progress.leave_out([0])  # trained earlier
        progress.resume(0)
        for epoch, seconds in ((1, 1.0), (2, 5.0)):
            row = {"epoch": epoch, "train_loss": 1.0, "train_seconds": seconds}
            progress.show(row, steps=6)
        shown = progress.bar.format_dict
    assert shown["elapsed"] < 100
    assert progress.bar.miniters == 1  # each epoch is drawn, also after those left out
    assert shown["rate"] is None  # the mean since the start, not of the last epochs
    assert (shown["n"], shown["initial"], shown["total"]) == (12, 10, 20)
    assert "1.2 steps/s" in shown["postfix"]
    left = progress.bar.format_meter(**{**shown, "elapsed": 6.0, "ncols": None})
    assert "00:06<00:24" in left  # eight epochs of three seconds


def test_curves_that_lead_elsewhere(fails, tmp_path):
    theirs = tmp_path / "theirs" / "seed-0-fold-0"
    theirs.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(theirs.parent)
    line = fails("model_cnn.py", *FLAGS, "--tensorboard", "--output", tmp_path / "run")
    assert "tensorboard/ there is a link" in line
    assert theirs.exists()
    other = tmp_path / "project" / "tensorboard" / "run-7"
    other.mkdir(parents=True)
    line = fails("model_baseline.py", *FLAGS, "--output", tmp_path / "project")
    assert "tensorboard/ there is a link or not of this project" in line
    assert other.exists()
    assert not (tmp_path / "project" / "checkpoint").exists()


def test_nothing_is_shown_where_nothing_can_be(monkeypatch):
    """Standard output is closed, and the terminal of the bar is gone."""

    def gone(*_):
        raise OSError("gone")

    monkeypatch.setattr("sys.stdout", None)
    with Progress([2]) as progress:
        monkeypatch.setattr(progress.bar, "update", gone)
        monkeypatch.setattr(progress.bar, "close", gone)
        progress.show({"epoch": 1, "train_loss": 1.0, "train_seconds": 1.0}, 3)
