"""predict.py by its command line, on small random weights; the released ones on real images."""

import csv
import io
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import warm
from drawn import BACKGROUND, NUCLEUS, field
from PIL import Image
from random_weights import FREQUENCIES
from safetensors.torch import load_file
from written import fetches_nothing

import models
from bloodcells.data import synthetic_cells
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.evaluation import calibration
from bloodcells.evaluation.prediction import predict as predict_probabilities
from bloodcells.inference.classifier import Released

ODD_NAMES = (
    *("a b.png", "two\nlines.png", "клетка 細胞.png", "tab\t.png", "red \x1b[31m.png"),
    '<img src=x onerror="document.title=1">.png',
)
CELLS = synthetic_cells.make()["test"][0][:12]


def test_the_formats_agree(predict, twelve):
    outcome = predict(twelve, "--format", "json")
    assert outcome.code == 0
    rows = json.loads(outcome.out)
    assert len(rows) == 12
    for row in rows:
        assert set(row) == {
            *("path", "label", "probability", "probabilities", "unlike_training", "foreign"),
        }
        assert row["foreign"] is False
        assert list(row["probabilities"]) == list(CLASS_NAMES)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row["probabilities"].values())
        assert row["probabilities"][row["label"]] == row["probability"]
    flat = list(csv.DictReader(io.StringIO(predict(twelve, "--format", "csv").out)))
    assert [(r["path"], r["label"], float(r["probability"])) for r in flat] == [
        (r["path"], r["label"], r["probability"]) for r in rows
    ]
    assert float(flat[0]["monocyte"]) == rows[0]["probabilities"]["monocyte"]
    head, *table = predict(twelve).out.splitlines()
    assert head.split() == ["class", "p", "second", "p", "path"]
    for line, row in zip(table, rows, strict=True):
        assert line.startswith(row["label"])
        second, p = sorted(row["probabilities"].items(), key=lambda item: -item[1])[1]
        assert f" {row['probability']:.4f}  {second:20} {p:.4f}    {row['path']}" in line
        assert line.endswith(row["path"])


def test_files_arrays_and_standard_input_get_the_same_answer(
    predict, twelve, tmp_path, monkeypatch
):
    np.save(tmp_path / "cells.npy", CELLS)
    from_array = json.loads(predict(tmp_path / "cells.npy", "--format", "json").out)
    assert [row["path"] for row in from_array[:2]] == [f"{tmp_path}/cells.npy[{i}]" for i in (0, 1)]
    files = sorted(twelve.rglob("*.png"), key=lambda path: path.name)
    from_files = json.loads(predict(*files, "--format", "json", "--batch-size", "5").out)
    for one, other in zip(from_array, from_files, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
    stdin = SimpleNamespace(buffer=io.BytesIO(files[3].read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    (row,) = json.loads(predict("-", "--format", "json").out)
    assert row["path"] == "-"
    assert row["probabilities"] == pytest.approx(from_files[3]["probabilities"], abs=1e-6)


@pytest.mark.parametrize("views", [1, 8])
def test_probabilities_are_those_of_the_network_at_its_temperature(
    predict, weights, tmp_path, views
):
    np.save(tmp_path / "cells.npy", CELLS)
    rows = json.loads(predict(tmp_path / "cells.npy", "--format", "json", "--views", views).out)
    network = models.build("CellNet", 28, (4, 8, 8)).eval()
    state = load_file(weights)
    network.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("network.")})
    plain = predict_probabilities(network, torch.from_numpy(CELLS), views=views).numpy()
    expected = calibration.apply_temperature(plain, {1: 0.5, 8: 0.25}[views])
    for row, values in zip(rows, expected, strict=True):
        assert list(row["probabilities"].values()) == pytest.approx(values.tolist(), abs=1e-4)


def test_eight_views_do_not_know_how_an_image_is_turned(predict, tmp_path):
    np.save(tmp_path / "as-is.npy", CELLS)
    np.save(tmp_path / "turned.npy", np.rot90(CELLS, axes=(1, 2)))
    as_is, turned = (
        json.loads(predict(tmp_path / name, "--views", 8, "--format", "json").out)
        for name in ("as-is.npy", "turned.npy")
    )
    for one, other in zip(as_is, turned, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_comes_back_whole(predict, tmp_path, name):
    path = tmp_path / name
    Image.fromarray(CELLS[0]).save(path)
    assert json.loads(predict(path, "--format", "json").out)[0]["path"] == str(path)
    assert next(csv.DictReader(io.StringIO(predict(path, "--format", "csv").out)))["path"] == str(
        path
    )
    table = predict(path).out
    assert len(table.splitlines()) == 2
    assert "\x1b" not in table
    page = predict(path, "--format", "html").out
    assert fetches_nothing(page)
    assert "<img src=x" not in page


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are text")
def test_name_that_is_no_text(predict, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(path, "wb") as file:
        Image.fromarray(CELLS[0]).save(file, "PNG")
    for format in ("table", "csv", "json", "html"):
        assert predict(os.fsdecode(path), "--format", format).code == 0
    labelled = os.fsencode(tmp_path) + b"/monocyte/\xff\xfe.png"
    os.mkdir(os.path.dirname(labelled))
    os.rename(path, labelled)
    outcome = predict(os.fsdecode(labelled), "--labelled", "--output", tmp_path / "run")
    assert outcome.code == 0, outcome
    assert b"/\xff\xfe.png,monocyte" in (tmp_path / "run" / "predictions.csv").read_bytes()


def test_bad_images_are_named_and_skipped(predict, twelve):
    (twelve / "text.png").write_text("no picture")
    (twelve / "two\nlines.jpg").write_bytes(b"\xff\xd8 cut")
    outcome = predict(twelve, "--format", "json")
    assert outcome.code == 1
    assert len(json.loads(outcome.out)) == 12
    lines = outcome.err.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("text.png: not an image that can be read")
    assert "two\\nlines.jpg: " in lines[1]
    assert lines[2] == "predict.py: 2 images could not be used"


def test_only_some_classes_can_occur(predict, fails, twelve, weights):
    rows = json.loads(predict(twelve, "--format", "json").out)
    flags = ("--format", "json", "--classes", "lym,Eosinophils")
    outcome = predict(twelve, *flags)
    assert "shared among these classes only: eosinophil, lymphocyte" in outcome.err
    for row, every in zip(json.loads(outcome.out), rows, strict=True):
        p = [every["probabilities"][name] for name in ("eosinophil", "lymphocyte")]
        expected = {"eosinophil": p[0] / sum(p), "lymphocyte": p[1] / sum(p)}
        assert row["probabilities"] == pytest.approx(expected, abs=1e-5)
    outcome = predict(twelve, "--format", "json", "--classes", "normal-differential")
    assert len(json.loads(outcome.out)[0]["probabilities"]) == 5
    assert predict(twelve, "--classes", "monocyte").code == 0
    outcome = predict(twelve, "--labelled", "--classes", "monocyte")
    assert (outcome.code, outcome.out) == (2, "")
    assert "basophil, which --classes says cannot occur" in outcome.err
    line = fails("predict.py", twelve, "--weights", weights, "--classes", "blast")
    assert "--classes: 'blast' is none of" in line


def test_foreign_images_have_equally_frequent_classes(predict, twelve, tmp_path):
    (file,) = [path for path in twelve.rglob("*.png") if path.name == "03.png"]
    (official,) = json.loads(predict(file, "--format", "json").out)
    large = Image.open(file).resize((280, 280), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    outcome = predict(tmp_path / "large.png", "--frame", "none", "--format", "json")
    assert "1 of 1 images are taken as another laboratory's" in outcome.err
    (foreign,) = json.loads(outcome.out)
    (again,) = json.loads(predict(tmp_path / "large.png", "--crop", "279", "--format", "json").out)
    weighted = np.array(list(official["probabilities"].values())) / FREQUENCIES
    expected = weighted / weighted.sum()
    for row in (foreign, again):
        assert row["foreign"] is True
        assert list(row["probabilities"].values()) == pytest.approx(expected, abs=0.02)
    assert "another laboratory's" not in predict(file).err


@pytest.mark.parametrize("size", [(128, 128), (360, 363)])
def test_images_not_framed_for_their_size_are_counted(predict, tmp_path, size):
    field(size, (64, 64, 30)).save(tmp_path / "a.png")
    assert "1 of 1 images have a size of the data set's" in predict(tmp_path).err
    assert "MedMNIST" not in predict(tmp_path, "--frame", "cell").err


def test_a_cell_is_found_and_shown(predict, fails, weights, tmp_path):
    photographs = [tmp_path / "blank.png", tmp_path / "field.png"]
    field((300, 200)).save(photographs[0])
    field((300, 200), (215, 105, 25)).save(photographs[1])
    outcome = predict(*photographs, "--save-crops", tmp_path / "crops", "--format", "html")
    assert outcome.code == 1
    assert "blank.png: no stained cell found" in outcome.err
    (crop,) = (tmp_path / "crops").iterdir()
    pixels = np.asarray(Image.open(crop)).astype(int)
    assert abs(pixels[14, 14] - NUCLEUS).max() < 20
    assert abs(pixels[1, 1] - BACKGROUND).max() < 20
    assert outcome.out.count("<img ") == 1
    assert predict(tmp_path / "blank.png", "--frame", "none").code == 0
    line = fails("predict.py", tmp_path, "--weights", weights, "--frame", "centre", "--crop", "200")
    assert "--frame does nothing with --crop 200" in line


def test_mistakes_are_one_line(fails, weights, twelve, tmp_path):
    assert "no images: name files" in fails("predict.py")
    assert "no such file" in fails("predict.py", tmp_path / "none.png")
    (tmp_path / "empty").mkdir()
    assert "no images there" in fails("predict.py", tmp_path / "empty")
    line = fails("predict.py", twelve, "--crop", "all")
    assert "argument --crop: 'all' is not an integer" in line
    line = fails("predict.py", twelve, "--abstain-below", "2")
    assert "argument --abstain-below: '2' is not a number" in line
    line = fails("predict.py", twelve, "--sets", "0.9")
    assert "argument --sets: invalid choice: '0.9'" in line
    line = fails("predict.py", twelve, "--names", tmp_path / "names.toml")
    assert "--names does nothing without --labelled or --classes" in line
    given = ("--weights", weights)
    assert "has no folder" in fails("predict.py", "-", "--labelled", *given)
    for idle in (("--labelled",), ("--sets", "0.95"), ("--format", "csv"), ("--batch-size", 7)):
        line = fails("predict.py", "--export", tmp_path / "a.onnx", *idle, *given)
        assert f"{idle[0]} does nothing with --export" in line


def test_flags_may_stand_between_paths(predict, twelve):
    one, other, *_ = sorted(twelve.rglob("*.png"))
    assert len(json.loads(predict(one, "--format", "json", other).out)) == 2


def test_reader_that_leaves_early(weights, tmp_path):
    np.save(tmp_path / "cells.npy", np.tile(CELLS, (100, 1, 1, 1)))
    os.mkfifo(tmp_path / "pipe")
    command = ("predict.py", tmp_path / "cells.npy", "--weights", weights, "--format", "csv")
    process = warm.start(*command, out=tmp_path / "pipe", err=tmp_path / "err")
    with (tmp_path / "pipe").open() as reader:
        assert reader.readline().startswith("path,label")
    assert warm.ended(process) == 141
    assert "Traceback" not in (tmp_path / "err").read_text()


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_what_was_done_before_ctrl_c_is_kept(predict, twelve, monkeypatch, form):
    answer, calls = Released.predict, iter(range(100))

    def interrupted(self, *rest):
        if next(calls) == 3:  # the first is a blank image, to check the weights
            raise KeyboardInterrupt
        return answer(self, *rest)

    asked = (twelve, "--format", form, "--batch-size", 3)  # other batches round differently
    whole = predict(*asked).out
    monkeypatch.setattr(Released, "predict", interrupted)
    outcome = predict(*asked)
    assert outcome.code == 130
    assert outcome.err.strip().endswith("the output holds the images classified so far")
    if form == "json":
        assert json.loads(outcome.out) == json.loads(whole)[:6]
    else:
        assert outcome.out.splitlines() == whole.splitlines()[:7]


def test_a_page_is_written_only_at_the_end(predict, twelve, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bloodcells.inference.output.png", interrupted)
    outcome = predict(twelve, "--format", "html")
    assert (outcome.code, outcome.out) == (130, "")
    assert "interrupted" in outcome.err
