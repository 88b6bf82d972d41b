"""report.py: documents written from finished real runs only; runs compared and drawn again."""

import json
import os
import shutil

import numpy as np
import pytest
from shared import ROOT
from written import change, metrics_of

from bloodcells.tracking.run_folder import NEEDED


@pytest.fixture
def tables_alone(monkeypatch):
    """Leave out the figures and the page, which are drawn even if no table can be made."""
    for name in ("draw", "write_page", "write_code_list"):
        monkeypatch.setattr(f"report.{name}", lambda *_: [])


@pytest.mark.usefixtures("drawn_figures")
def test_tables_are_written_between_their_markers(run, plots, documents, readme):
    accuracy = {"mean": 0.87654, "std": 0.01234, "low": 0.85, "high": 0.9}
    change(plots / "cnn-paper", test={"accuracy": accuracy})
    assert run("report.py", *documents, "--check").code == 2
    assert not (plots / "report.html").exists()
    assert "old" in readme.read_text()
    outcome = run("report.py", *documents)
    assert outcome.code == 0
    text = readme.read_text()
    assert text.startswith("above\n<!-- paper: written by report.py -->\n| metric |")
    assert text.endswith("<!-- end of headline -->\nbelow\n")
    assert "\nold\n" not in text
    assert (plots / "ladder.png").stat().st_size > 10_000
    row = next(line for line in text.splitlines() if line.startswith("| CNN accuracy"))
    assert row.split(" | ")[1] == "0.914"
    assert row.endswith("| 0.877 ± 0.012 [0.850, 0.900] |")
    assert row in outcome.out
    assert "| recipe | parameters | test accuracy | corrupted | " in outcome.out
    assert "| learning rate |" not in outcome.out  # of docs/search.md
    check = run("report.py", *documents, "--check")
    assert (check.code, check.out) == (0, "")
    for path in readme.parent.rglob("*.md"):
        assert "\nold\n" not in path.read_text()
    assert json.loads((plots / "code.json").read_text())["model_cnn.py"]
    assert (plots / "report.html").stat().st_size > 100_000


@pytest.mark.usefixtures("tables_alone")
def test_a_document_edited_meanwhile_stays(fails, documents, readme, monkeypatch):
    def slow(text, *rest):
        readme.write_text("mine")
        return f"{text}new"

    monkeypatch.setattr("report.renewed", slow)
    assert "was edited meanwhile" in fails("report.py", *documents)
    assert readme.read_text() == "mine"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "metrics.json").unlink(), "run python model_cnn.py"),
        (lambda f: (f / "predictions.npz").unlink(), "no finished experiment"),
        (lambda f: (f / "metrics.json").write_text("{"), "the results are damaged"),
        (lambda f: (f / "predictions.npz").write_bytes(b"PK"), "the results are damaged"),
        (lambda f: change(f, dataset={"synthetic": True}), "not a result"),
        (
            lambda f: change(f, dataset={"name": "BloodMNIST from photographs"}),
            "not made from the official images",
        ),
        (lambda f: change(f, code={"edited": ["models.py"]}), "made by edited code"),
        (lambda f: change(f, config={"protocol": "as-published"}), "protocol is not cross-val"),
        (lambda f: change(f, config={"epochs": 1}), "epochs is not 5, as the table requires"),
        (lambda f: change(f, config={"dihedral": True}), "dihedral is not False"),
        (lambda f: change(f, config={"model": "Baseline"}), "model is not ConvNet"),
        (lambda f: change(f, config={"dropout": 0.5}), "dropout is not None"),
        (lambda f: (f / "metrics.json").write_text("{}"), "metrics.json lacks code, config"),
        (
            lambda f: (f / "metrics.json").write_text(json.dumps(dict.fromkeys(NEEDED - {"code"}))),
            "cnn-paper: made by version 1.0.0, which recorded no code: run it anew",
        ),
    ],
)
@pytest.mark.usefixtures("tables_alone")
def test_unfit_runs_are_named(fails, plots, documents, readme, spoil, says):
    before = readme.read_text()
    spoil(plots / "cnn-paper")
    line = fails("report.py", *documents)
    assert says in line
    assert str(plots / "cnn-paper") in line
    assert readme.read_text() == before


@pytest.mark.usefixtures("tables_alone")
def test_a_run_without_a_metric_of_the_table(fails, plots, documents):
    path = plots / "cnn-paper" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test_majority_class_accuracy"]
    path.write_text(json.dumps(metrics))
    line = fails("report.py", *documents)
    assert "lacks 'test_majority_class_accuracy'" in line


@pytest.mark.usefixtures("tables_alone")
def test_a_bad_card_leaves_the_readme(fails, plots, documents, readme):
    before = readme.read_text()
    change(plots / "robustness", runs={"cnn-best": {"epochs": 1}})
    assert "epochs is not 24, as the table requires" in fails("report.py", *documents)
    (plots / "robustness" / "metrics.json").unlink()
    assert "cannot be read; run python robustness.py" in fails("report.py", *documents)
    assert readme.read_text() == before


@pytest.mark.usefixtures("tables_alone")
def test_document_without_markers(fails, documents, readme):
    readme.write_text("no table here")
    assert "are missing" in fails("report.py", *documents)
    readme.write_bytes(b"\xff\xfe")
    assert "cannot be read" in fails("report.py", *documents)
    readme.unlink()
    assert f"{readme}: cannot be read" in fails("report.py", *documents)


def test_compare_shows_runs_of_edited_code(run, fails, plots, quick_run):
    change(plots / "cnn-paper", code={"edited": ["models.py"]}, config={"lr": 0.5})
    where = ("--plots", plots, "--data-root", plots)  # where there is no data file
    outcome = run("report.py", "--compare", plots / "baseline", plots / "cnn-paper", *where)
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    metrics = metrics_of(plots / "cnn-paper")
    held_out = np.mean([row["val"]["accuracy"] for row in metrics["runs"]])
    assert lines[2].startswith(f"cnn-paper   {held_out:.4f} ± ")
    low, high = (metrics["test"]["accuracy"][key] for key in ("low", "high"))
    assert f"{metrics['test']['accuracy']['mean']:.4f} ± " in lines[2]
    assert f" [{low:.3f}, {high:.3f}]" in lines[2]
    assert "lr: 0.001 | 0.5" in lines
    assert any(x.startswith("cnn-paper: edited since commit ") and "models.py" in x for x in lines)
    gain = (
        "  cnn-paper against baseline: +0.00 points [+0.00, +0.00] over images, ± 0.00 over pairs "
    )
    assert lines[-7:-2] == [
        "on the same test images, for reporting, by pair of models",
        f"{gain}of models",
        "  only baseline : only cnn-paper right",
        *["  0 : 0, p = 1"] * 2,
    ]
    line = fails("report.py", "--compare", plots / "baseline", plots / "nothing")
    assert "no finished experiment" in line
    line = fails("report.py", "--compare", plots / "baseline", quick_run)
    assert "on different data from" in line
    line = fails("report.py", "--compare", plots / "baseline", "--check")
    assert "not allowed with" in line


@pytest.mark.usefixtures("drawn_figures")
def test_figures_are_drawn_again_from_a_run_s_files(run, fails, quick_run, tmp_path):
    folder = shutil.copytree(quick_run, tmp_path / "run")
    for path in folder.glob("*.png"):
        path.unlink()
    outcome = run("report.py", "--draw", folder)
    assert outcome.code == 0, outcome
    for path in quick_run.glob("*.png"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert (folder / "metrics.json").read_bytes() == (quick_run / "metrics.json").read_bytes()
    assert run("report.py", "--draw", folder, "--figure-format", "svg").code == 0
    text = (folder / "confusion_matrix.svg").read_text()
    assert "generated images: not a result" in text
    change(folder, code={"script": "mine.py"})  # a copy of a training script
    assert run("report.py", "--draw", folder).code == 0
    damaged = shutil.copytree(quick_run, tmp_path / "damaged")
    (damaged / "history.csv").write_text("epoch\n")
    assert f"--draw {damaged}: a result is damaged" in fails("report.py", "--draw", damaged)
    change(folder, dataset={"counts": {"train": 1, "val": 1, "test": 1}})
    assert "made from another data set than the one here" in fails("report.py", "--draw", folder)
    assert "does nothing without --draw" in fails("report.py", "--figure-format", "svg")


@pytest.mark.parametrize(
    ("study", "figures"),
    [
        ("ablation-robust", ["ablation"]),
        ("batch-effect", ["batch_recall"]),
        ("bench", ["growth", "network_speed", "operators"]),
        ("robustness", ["accuracy"]),
    ],
)
def test_figures_are_drawn_again_from_a_study_s_file(run, tmp_path, study, figures):
    (results,) = (ROOT / "plots" / study).glob("*.json")
    (tmp_path / results.name).write_bytes(results.read_bytes())
    outcome = run("report.py", "--draw", tmp_path, "--figure-format", "svg")
    assert outcome.code == 0, outcome
    assert sorted(path.stem for path in tmp_path.glob("*.svg")) == figures


def test_figures_that_need_more_than_files_are_not_drawn_again(fails, tmp_path):
    shutil.copy(ROOT / "plots/release/metrics.json", tmp_path)
    assert "need more than its files" in fails("report.py", "--draw", tmp_path)
    assert "no results are here" in fails("report.py", "--draw", tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a named pipe")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.write_bytes(b"\xff")])
def test_an_unreadable_code_list_is_out_of_date(fails, plots, documents, make):
    make(plots / "code.json")
    assert "code.json is out of date" in fails("report.py", *documents, "--check")


def test_text_in_place_of_a_number_in_a_figure(fails, plots, documents):
    change(plots / "cnn-paper", model={"parameters": "many"})
    assert "a result is damaged" in fails("report.py", *documents)
