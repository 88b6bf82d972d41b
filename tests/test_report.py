"""The table: from finished real runs only, and the committed README is what it writes."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT

import report
import run_folder


@pytest.fixture
def plots(quick_run, tmp_path):
    """Four run folders of the table, made of a generated run relabelled as real."""
    for name in report.FOLDERS.values():
        for suffix in ("", "-as-published"):
            folder = tmp_path / "plots" / (name + suffix)
            shutil.copytree(quick_run, folder)
            protocol = "as-published" if suffix else "cross-validation"
            config = {"protocol": protocol, "folds": 5, "epochs": 5, "model": "ConvNet"}
            change(folder, dataset={"synthetic": False}, config=config)
    return tmp_path / "plots"


def change(folder, **changes):
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text())
    for key, value in changes.items():
        if isinstance(value, dict):
            metrics[key].update(value)
        else:
            metrics[key] = value
    path.write_text(json.dumps(metrics))


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    return path


def test_table_is_written_between_the_markers(run, plots, readme):
    accuracy = {"mean": 0.87654, "std": 0.01234, "low": 0.85, "high": 0.9}
    change(plots / "cnn-paper", test={"accuracy": accuracy})
    flags = ["--plots", plots, "--readme", readme]
    assert run("report.py", *flags, "--check").code == 2
    assert "old" in readme.read_text()
    outcome = run("report.py", *flags)
    assert outcome.code == 0
    text = readme.read_text()
    assert text.startswith(f"above\n{report.BEGIN}\n| macro average |")
    assert text.endswith(f"{report.END}\nbelow\n")
    row = next(line for line in text.splitlines() if line.startswith("| CNN accuracy"))
    assert row.split(" | ")[1] == "0.914"
    assert row.endswith("| 0.877 ± 0.012 [0.850, 0.900] |")
    assert row in outcome.out
    assert run("report.py", *flags, "--check").code == 0


def test_comparison_counts_images(plots):
    folder = plots / "cnn-paper"
    saved = run_folder.read(folder)
    perfect = np.eye(8, dtype=np.float32)[saved.labels][None].repeat(2, 0)
    np.savez(folder / "predictions.npz", probabilities=perfect, labels=saved.labels)
    text = report.paper_table(plots)
    wrong = [(p.argmax(1) != saved.labels).sum() for p in saved.probabilities]
    assert f"{wrong[0]}:0, {wrong[1]}:0" in text
    assert "better in 2 of 2 folds" in text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "metrics.json").unlink(), "make it with python model_cnn.py"),
        (lambda f: (f / "predictions.npz").unlink(), "no finished run there"),
        (lambda f: (f / "metrics.json").write_text("{"), "the saved run is damaged"),
        (lambda f: (f / "predictions.npz").write_bytes(b"PK"), "the saved run is damaged"),
        (lambda f: change(f, dataset={"synthetic": True}), "never enters a table"),
        (lambda f: change(f, config={"protocol": "as-published"}), "protocol is not cross-val"),
        (lambda f: change(f, config={"epochs": 1}), "epochs is not 5 as the table demands"),
        (lambda f: change(f, config={"dihedral": True}), "dihedral is not False"),
        (lambda f: change(f, config={"model": "Baseline"}), "model is not ConvNet"),
        (lambda f: (f / "metrics.json").write_text("{}"), "metrics.json lacks config"),
    ],
)
def test_unfit_runs_are_named(fails, plots, readme, spoil, says):
    before = readme.read_text()
    spoil(plots / "cnn-paper")
    line = fails("report.py", "--plots", plots, "--readme", readme)
    assert says in line
    assert str(plots / "cnn-paper") in line
    assert readme.read_text() == before


def test_a_run_without_a_metric_of_the_table(fails, plots, readme):
    path = plots / "cnn-paper" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test_majority_class_accuracy"]
    path.write_text(json.dumps(metrics))
    line = fails("report.py", "--plots", plots, "--readme", readme)
    assert "lacks 'test_majority_class_accuracy'" in line


def test_readme_without_markers(fails, plots, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("no table here")
    assert "are missing" in fails("report.py", "--plots", plots, "--readme", path)
    path.write_bytes(b"\xff\xfe")
    assert "cannot be read" in fails("report.py", "--plots", plots, "--readme", path)
    assert "--readme" in fails("report.py", "--plots", plots, "--readme", tmp_path / "none.md")


def test_committed_readme_is_what_the_committed_results_say(run):
    outcome = run("report.py", "--check")
    assert outcome.code == 0, "run python report.py and commit"


def test_committed_runs_are_real_and_whole():
    for name in report.FOLDERS.values():
        for suffix in ("", "-as-published"):
            saved = run_folder.read(ROOT / "plots" / (name + suffix))
            counts = saved.metrics["dataset"]["counts"]
            assert counts == {"train": 11959, "val": 1712, "test": 3421}
            assert saved.probabilities.shape == (1 if suffix else 5, 3421, 8)
            accuracy = (saved.probabilities.argmax(2) == saved.labels).mean()
            assert saved.metrics["test"]["accuracy"]["mean"] == pytest.approx(accuracy, abs=1e-9)
