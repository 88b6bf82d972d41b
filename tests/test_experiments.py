"""The edits of docs/experiments.md, applied to a copy of the project and run."""

import csv
import re

import numpy as np
import pytest
import warm
from PIL import Image
from shared import QUICK_CNN, ROOT, git
from written import metrics_of, probabilities_of

TEXT = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"^### (.*?)\n.*?```diff\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
OWN = "Images of your own, with other classes"
FLAGS = (*QUICK_CNN, "--epochs", "2")


def train(project, folder):
    """Run model_cnn.py of a project; returns what it printed and the rows of its history."""
    output = ("--output", folder) if folder else ()
    done = warm.run("model_cnn.py", *FLAGS, *output, cwd=project, drawn=True)
    assert done.returncode == 0, done.stderr
    folder = folder or next((project / "plots").glob("*"))
    with (folder / "history.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    picture = Image.open(folder / "learning_curves.png").size
    return done.stdout, rows, probabilities_of(folder), picture


@pytest.fixture(scope="module")
def plain(committed_copy, tmp_path_factory):
    """The script without an edit."""
    return train(committed_copy, tmp_path_factory.mktemp("plain") / "run")


def test_there_are_seven_edits_of_one_file_each():
    assert len(DIFFS) == 7
    for title, diff in DIFFS:
        file = "model_cnn.py" if title != OWN else "bloodcells/data/bloodmnist.py"
        assert re.findall(r"^\+\+\+ b/(.*)$", diff, re.MULTILINE) == [file]


def test_images_of_one_s_own_with_other_classes(copy):
    (copy / "edit.diff").write_text(dict(DIFFS)[OWN])
    git(copy, "apply", "edit.diff")
    arrays = {}
    for part, count in (("train", 40), ("val", 20), ("test", 20)):
        labels = np.arange(count)[:, None] % 2
        arrays[f"{part}_images"] = np.full((count, 28, 28, 3), 50, np.uint8)
        arrays[f"{part}_images"][labels[:, 0] == 1] = 200
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    np.savez(copy / "mine.npz", **arrays)
    flags = ("--folds", "2", "--epochs", "2", "--device", "cpu")
    done = warm.run("model_cnn.py", *flags, cwd=copy)
    assert done.returncode == 0, done.stderr
    (folder,) = (copy / "plots").glob("*")
    found = metrics_of(folder)
    assert [row["class"] for row in found["test_per_class"]] == ["blast", "normal"]
    assert found["test"]["accuracy"]["mean"] == 1
    assert found["dataset"]["name"] == "my images"
    assert "\nnext: " not in done.stdout  # the preset's own experiment is of other images


def test_stopping_early(copy):
    lines = re.search(r"\n- \*\*To stop early.*?```python\n(.*?)  ```", TEXT, re.DOTALL)
    script, save = copy / "model_cnn.py", "session.save(epoch, row)"
    text, indent = script.read_text(), " " * 16
    (call,) = (line for line in text.splitlines() if save in line)
    added = "\n".join(indent + line.removeprefix("  ") for line in lines[1].splitlines())
    losses = ' | {"val_loss": [3.0, 2.0, 2.5][min(epoch, 3) - 1]}'  # the second is the lowest
    text = text.replace("score(model, held_out, recipe)", f"score(model, held_out, recipe){losses}")
    script.write_text(text.replace(call, f"{call}\n{added}"))
    flags = (*QUICK_CNN, "--epochs", "30", "--output", copy / "run")
    done = warm.run("model_cnn.py", *flags, cwd=copy)
    assert done.returncode == 0, done.stderr
    with (copy / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    for fold in {row["fold"] for row in rows}:
        assert [float(row["val_loss"]) for row in rows if row["fold"] == fold] == [3, 2] + [2.5] * 4


def test_notebook(capsys):
    code = re.search(r"### In a notebook\n+```python\n(.*?)```", TEXT, re.DOTALL)[1]
    assert code.count("load(size=28)") == 1
    exec(code.replace("load(size=28)", "load(size=28, synthetic=True)"), {})
    *rows, accuracy = capsys.readouterr().out.splitlines()
    assert [row.startswith("{'train_loss': ") for row in rows] == [True] * 3
    assert float(accuracy.removeprefix("tensor(").removesuffix(")")) > 0.5  # 1/8 is chance


@pytest.mark.parametrize(
    ("title", "diff"), [d for d in DIFFS if d[0] != OWN], ids=[d[0] for d in DIFFS if d[0] != OWN]
)
def test_edit_applies_runs_and_shows(copy, plain, title, diff):
    (copy / "edit.diff").write_text(diff)
    git(copy, "apply", "edit.diff")
    out, rows, probabilities, picture = train(copy, None)
    _, plain_rows, plain_probabilities, plain_picture = plain
    (folder,) = (copy / "plots").glob("*")
    assert re.fullmatch(r"cnn-paper-.*-synthetic-edited-[0-9a-f]{6}", folder.name)
    assert out.startswith("edited since commit")
    assert f"model_cnn.py; results go to {folder}" in out
    if "schedule" in title:
        assert plain_rows[0]["lr"] == plain_rows[1]["lr"] == 0.001
        assert 0 < rows[1]["lr"] < rows[0]["lr"] < 0.001
    elif "optimizer" in title:
        assert rows[0]["lr"] == plain_rows[0]["lr"]
        assert rows[0].keys() == plain_rows[0].keys()
    elif "loss" in title:
        assert rows[0]["train_loss"] < plain_rows[0]["train_loss"]
    elif "accumulated" in title:  # fewer updates
        assert rows[-1]["train_loss"] > plain_rows[-1]["train_loss"]
    elif "augmentation" in title:
        assert rows[0].keys() == plain_rows[0].keys()
    elif "gradients" in title:
        assert all(row["gradient_norm"] > 0 for row in rows)
        assert picture[0] == pytest.approx(1.5 * plain_picture[0], abs=1)  # one panel more
    else:
        pytest.fail(f"no check of {title}")
    changed = not np.array_equal(probabilities, plain_probabilities)
    assert changed == ("norm of the gradients" not in title)  # which only looks
