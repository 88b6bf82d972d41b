"""predict.py by its command line, on small random weights; the released ones on real images."""

import csv
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FREQUENCIES, ROOT, changed, complaints
from PIL import Image, ImageDraw
from safetensors.torch import load_file

import models
from bloodcells.data import synthetic_cells
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.evaluation import calibration
from bloodcells.evaluation.prediction import predict as predict_probabilities
from bloodcells.inference import onnx_export
from bloodcells.inference.classifier import Released, load_classifier, md5_of

CELLS, LABELS = (part[:12] for part in synthetic_cells.make()["test"])


@pytest.fixture
def predict(run, weights):
    return lambda *flags: run("predict.py", "--weights", weights, "--device", "cpu", *flags)


@pytest.fixture
def folder(tmp_path):
    """Twelve images in folders named after their classes."""
    for number, (pixels, label) in enumerate(zip(CELLS, LABELS, strict=True)):
        path = tmp_path / "cells" / CLASS_NAMES[label].replace(" ", "_") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "cells"


def test_the_formats_agree(predict, folder):
    outcome = predict(folder, "--format", "json")
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
    flat = list(csv.DictReader(io.StringIO(predict(folder, "--format", "csv").out)))
    assert [(r["path"], r["label"], float(r["probability"])) for r in flat] == [
        (r["path"], r["label"], r["probability"]) for r in rows
    ]
    assert float(flat[0]["monocyte"]) == rows[0]["probabilities"]["monocyte"]
    head, *table = predict(folder).out.splitlines()
    assert head.split() == ["class", "p", "second", "p", "path"]
    for line, row in zip(table, rows, strict=True):
        assert line.startswith(row["label"])
        assert f" {row['probability']:.4f} " in line
        assert line.endswith(row["path"])


def test_files_arrays_and_standard_input_get_the_same_answer(
    predict, folder, tmp_path, monkeypatch
):
    np.save(tmp_path / "cells.npy", CELLS)
    from_array = json.loads(predict(tmp_path / "cells.npy", "--format", "json").out)
    assert [row["path"] for row in from_array[:2]] == [f"{tmp_path}/cells.npy[{i}]" for i in (0, 1)]
    files = sorted(folder.rglob("*.png"), key=lambda path: path.name)
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


@pytest.mark.parametrize("name", ["a b.png", "two\nlines.png", "клетка 細胞.png", "tab\t.png"])
def test_any_name_comes_back_whole(predict, tmp_path, name):
    path = tmp_path / name
    Image.fromarray(CELLS[0]).save(path)
    assert json.loads(predict(path, "--format", "json").out)[0]["path"] == str(path)
    assert next(csv.DictReader(io.StringIO(predict(path, "--format", "csv").out)))["path"] == str(
        path
    )
    assert len(predict(path).out.splitlines()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are text")
def test_name_that_is_no_text(predict, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(path, "wb") as file:
        Image.fromarray(CELLS[0]).save(file, "PNG")
    for format in ("table", "csv", "json"):
        assert predict(os.fsdecode(path), "--format", format).code == 0
    labelled = os.fsencode(tmp_path) + b"/monocyte/\xff\xfe.png"
    os.mkdir(os.path.dirname(labelled))
    os.rename(path, labelled)
    outcome = predict(os.fsdecode(labelled), "--labelled", "--output", tmp_path / "run")
    assert outcome.code == 0, outcome
    assert b"/\xff\xfe.png,monocyte" in (tmp_path / "run" / "predictions.csv").read_bytes()


def test_bad_images_are_named_and_skipped(predict, folder):
    (folder / "text.png").write_text("no picture")
    (folder / "two\nlines.jpg").write_bytes(b"\xff\xd8 cut")
    outcome = predict(folder, "--format", "json")
    assert outcome.code == 1
    assert len(json.loads(outcome.out)) == 12
    lines = outcome.err.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("text.png: not an image that can be read")
    assert "two\\nlines.jpg: " in lines[1]
    assert lines[2] == "predict.py: 2 images could not be used"


def test_nothing_but_bad_images(predict, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    outcome = predict(tmp_path, "--format", "json")
    assert (outcome.code, json.loads(outcome.out)) == (1, [])


def test_report_against_folder_names(predict, folder):
    outcome = predict(folder, "--labelled", "--format", "json")
    rows = json.loads(outcome.out)
    right = sum(row["label"] == row["truth"] for row in rows)
    assert f"accuracy          {right / 12:.4f} [" in outcome.err
    recalls = [
        np.mean([row["label"] == name for row in rows if row["truth"] == name])
        for name in {row["truth"] for row in rows}
    ]
    assert f"balanced accuracy {np.mean(recalls):.4f} [" in outcome.err
    for name in {row["truth"] for row in rows}:
        assert f"\n  {name} " in outcome.err


def test_hidden_folders_are_no_classes(predict, folder):
    (folder / ".thumbnails" / "platelet").mkdir(parents=True)
    assert predict(folder, "--labelled").code == 0


def test_folders_of_unknown_names_are_left_out_and_listed(
    predict, fails, folder, weights, tmp_path
):
    first = min(folder.iterdir())
    name, count = first.name, len(list(first.iterdir()))
    first.rename(folder / "smudge")
    outcome = predict(folder, "--labelled", "--format", "json")
    assert f"left out of the scores: {count} file" in outcome.err
    assert "folders named 'smudge'" in outcome.err
    rows = json.loads(outcome.out)
    assert [row for row in rows if "truth" not in row] == [r for r in rows if "smudge" in r["path"]]
    (tmp_path / "names.toml").write_text(f'smudge = "{name}"\n')
    outcome = predict(folder, "--labelled", "--names", tmp_path / "names.toml")
    assert "left out" not in outcome.err
    (tmp_path / "names.toml").write_text('smudge = "blast"\n')
    given = ("--labelled", "--weights", weights)
    line = fails("predict.py", folder, *given, "--names", tmp_path / "names.toml")
    assert "smudge: 'blast' is none of basophil" in line
    (tmp_path / "names.toml").write_text("smudge = ")
    line = fails("predict.py", folder, *given, "--names", tmp_path / "names.toml")
    assert "names.toml: not a readable TOML file" in line
    line = fails("predict.py", folder / "smudge", *given)
    assert "no folder is named after a class ('smudge' is none of" in line
    (folder / "Monocytes2" / "MON").mkdir(parents=True)
    assert "MON: named after a class, without images" in fails("predict.py", folder, *given)


def test_scores_in_a_run_folder(predict, folder, tmp_path):
    outcome = predict(folder, "--labelled", "--output", tmp_path / "run", "--abstain-below", 0.13)
    assert outcome.code == 0, outcome
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"]
    assert found["images"] == 12
    present = {row["class"]: row for row in found["per_class"]}
    assert set(present) == {CLASS_NAMES[label] for label in LABELS}
    assert sum(map(sum, found["confusion_matrix"])) == 12
    for score in (found["accuracy"], *(row["recall"] for row in present.values())):
        assert 0 <= score["low"] <= score["mean"] + 1e-9 <= score["high"] + 2e-9
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"predictions.csv", "confusion_matrix.png"} <= names


def test_only_some_classes_can_occur(predict, fails, folder, weights):
    rows = json.loads(predict(folder, "--format", "json").out)
    flags = ("--format", "json", "--classes", "lym,Eosinophils")
    outcome = predict(folder, *flags)
    assert "shared among these classes only: eosinophil, lymphocyte" in outcome.err
    for row, every in zip(json.loads(outcome.out), rows, strict=True):
        p = [every["probabilities"][name] for name in ("eosinophil", "lymphocyte")]
        expected = {"eosinophil": p[0] / sum(p), "lymphocyte": p[1] / sum(p)}
        assert row["probabilities"] == pytest.approx(expected, abs=1e-5)
    outcome = predict(folder, "--format", "json", "--classes", "normal-differential")
    assert len(json.loads(outcome.out)[0]["probabilities"]) == 5
    assert predict(folder, "--classes", "monocyte").code == 0
    outcome = predict(folder, "--labelled", "--classes", "monocyte")
    assert (outcome.code, outcome.out) == (2, "")
    assert "basophil, which --classes says cannot occur" in outcome.err
    line = fails("predict.py", folder, "--weights", weights, "--classes", "blast")
    assert "--classes: 'blast' is none of" in line


def test_foreign_images_have_equally_frequent_classes(predict, folder, tmp_path):
    (file,) = [path for path in folder.rglob("*.png") if path.name == "03.png"]
    (official,) = json.loads(predict(file, "--format", "json").out)
    large = Image.open(file).resize((280, 280), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    outcome = predict(tmp_path / "large.png", "--frame", "none", "--format", "json")
    assert "1 of 1 images are not of the data set's kind" in outcome.err
    (foreign,) = json.loads(outcome.out)
    (again,) = json.loads(predict(tmp_path / "large.png", "--crop", "279", "--format", "json").out)
    weighted = np.array(list(official["probabilities"].values())) / FREQUENCIES
    expected = weighted / weighted.sum()
    for row in (foreign, again):
        assert row["foreign"] is True
        assert list(row["probabilities"].values()) == pytest.approx(expected, abs=0.02)
    assert "not of the data set's kind" not in predict(file).err


def test_adapting_to_another_laboratory(predict, fails, weights, folder, tmp_path, monkeypatch):
    # the random network names one class nearly always
    monkeypatch.setattr("bloodcells.inference.adaptation.MOST_OF_ONE_CLASS", 1.0)
    for number, path in enumerate(3 * sorted(folder.rglob("*.png"))):
        copy = tmp_path / "large" / path.parent.name / f"{number}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((56, 56)).save(copy)
    flags = ("--labelled", "--frame", "none", "--format", "json", tmp_path / "large")
    before = predict(*flags)
    outcome = predict(*flags, "--adapt", "--output", tmp_path / "run")
    assert "adapted to 36 images, which before were: basophil " in outcome.err
    assert complaints(tmp_path / "run" / "metrics.json") == []
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())["adaptation"]
    assert stored["images"] == 36
    means = [
        np.mean([list(row["probabilities"].values()) for row in json.loads(out)], axis=0)
        for out in (before.out, outcome.out)
    ]
    assert list(stored["shares"].values()) == pytest.approx(means[0].tolist(), abs=1e-6)
    assert abs(means[0] - means[1]).max() > 1e-3
    line = fails("predict.py", folder, "--weights", weights, "--adapt")
    assert "--adapt: 12 of 12 images are of the data set's own kind" in line
    line = fails("predict.py", copy, "--weights", weights, "--adapt", "--frame", "none")
    assert "--adapt: at least 36 usable images" in line
    Image.new("RGB", (90, 90), "white").save(tmp_path / "blank.png")
    with pytest.raises(AssertionError, match="--adapt: none of the images can be used"):
        fails("predict.py", tmp_path / "blank.png", "--weights", weights, "--adapt")
    line = fails("predict.py", "--weights", weights, "--adapt", "--export", tmp_path / "a.onnx")
    assert "--adapt does nothing with --export" in line


def test_a_cell_is_found_and_shown(predict, fails, weights, tmp_path):
    field = Image.new("RGB", (300, 200), (230, 215, 220))
    ImageDraw.Draw(field).ellipse((190, 80, 240, 130), (110, 60, 150))
    field.save(tmp_path / "field.png")
    Image.new("RGB", (300, 200), (230, 215, 220)).save(tmp_path / "blank.png")
    outcome = predict(tmp_path, "--save-crops", tmp_path / "crops", "--format", "html")
    assert outcome.code == 1
    assert "blank.png: no stained cell found" in outcome.err
    (crop,) = (tmp_path / "crops").iterdir()
    pixels = np.asarray(Image.open(crop)).astype(int)
    assert abs(pixels[14, 14] - (110, 60, 150)).max() < 20
    assert abs(pixels[1, 1] - (230, 215, 220)).max() < 20
    assert outcome.out.count("<img ") == 1
    assert predict(tmp_path / "blank.png", "--frame", "none").code == 0
    line = fails("predict.py", tmp_path, "--weights", weights, "--frame", "centre", "--crop", "200")
    assert "--frame does nothing with --crop 200" in line


@pytest.mark.parametrize("name", ["IG", "immature-granulocytes", "Immature_Granulocyte"])
def test_folder_names_that_mean_a_class(predict, tmp_path, name):
    (tmp_path / name).mkdir()
    Image.fromarray(CELLS[0]).save(tmp_path / name / "a.png")
    (row,) = json.loads(predict(tmp_path, "--labelled", "--format", "json").out)
    assert row["truth"] == "immature granulocyte"


def test_a_field_of_view(predict, fails, weights, tmp_path):
    field = Image.new("RGB", (400, 300), (230, 215, 220))
    for x in (80, 200, 320):
        ImageDraw.Draw(field).ellipse((x - 30, 120, x + 30, 180), (110, 60, 150))
    field.save(tmp_path / "field.png")
    flags = ("--detect", "--output", tmp_path / "run", "--format", "json")
    outcome = predict(tmp_path / "field.png", *flags)
    assert outcome.code == 0, outcome
    rows = json.loads(outcome.out)
    assert [row["path"].rpartition("#")[2] for row in rows] == ["1", "2", "3"]
    assert [row["x"] for row in rows] == pytest.approx([80, 200, 320], abs=2)
    assert complaints(tmp_path / "run" / "metrics.json") == []
    counted = json.loads((tmp_path / "run" / "metrics.json").read_text())["differential"]
    for row in counted:
        assert row["count"] == sum(one["label"] == row["class"] for one in rows)
        if "share" in row:
            assert (
                f"\n  {row['class']:20} {row['count']:6}   {100 * row['share']:5.1f} ["
                in outcome.err
            )
    boxed = np.asarray(Image.open(tmp_path / "run" / "field-001.png")).astype(int)
    assert boxed.shape == (300, 400, 3)
    assert (abs(boxed - (220, 20, 60)).sum(2) == 0).sum() > 500
    Image.new("RGB", (400, 300), "white").save(tmp_path / "blank.png")
    outcome = predict(tmp_path / "blank.png", "--detect")
    assert (outcome.code, "blank.png: no stained cell found" in outcome.err) == (1, True)
    for other in (("--labelled",), ("--crop", "200"), ("--frame", "none")):
        line = fails("predict.py", tmp_path, "--weights", weights, "--detect", *other)
        assert "--detect: not allowed with" in line
    line = fails("predict.py", "-", "--weights", weights, *flags)
    assert "--output: not allowed with --detect and standard input" in line
    np.save(tmp_path / "fields.npy", np.asarray(field)[None])
    outcome = predict(tmp_path / "fields.npy", "--detect")
    assert (outcome.code, "--detect needs pictures" in outcome.err) == (1, True)


def test_results_of_another_script_stay(fails, quick_run, weights, folder):
    flags = ("--labelled", folder, "--weights", weights, "--output", quick_run)
    assert "holds results of model_baseline.py; pass another folder" in fails("predict.py", *flags)


def test_abstaining(predict, folder):
    rows = json.loads(predict(folder, "--format", "json").out)
    bar = float(np.median([row["probability"] for row in rows]))
    outcome = predict(folder, "--format", "json", "--abstain-below", bar, "--labelled")
    held = [row["label"] == "abstained" for row in json.loads(outcome.out)]
    assert held == [row["probability"] < bar for row in rows]
    assert any(held)
    assert "abstai" in outcome.err


def test_sets_hold_all_classes_above_the_threshold(predict, folder):
    rows = json.loads(predict(folder, "--format", "json", "--sets", "0.95").out)
    for row in rows:
        assert row["set"] == [k for k, p in row["probabilities"].items() if p >= 0.05]
    assert predict(folder, "--sets", "0.95").out.count("{") == 12
    assert " | " in predict(folder, "--sets", "0.95", "--format", "csv").out


def test_images_unlike_the_training_cells_are_told(run, weights, folder, tmp_path):
    strict = changed(weights, tmp_path / "strict.safetensors", farthest=0.0)
    outcome = run("predict.py", folder, "--weights", strict, "--format", "json")
    assert all(row["unlike_training"] for row in json.loads(outcome.out))
    assert "12 of 12 images are unlike the training images" in outcome.err
    assert outcome.code == 0


def test_mistakes_are_one_line(fails, weights, folder, tmp_path):
    assert "no images: name files" in fails("predict.py")
    assert "no such file" in fails("predict.py", tmp_path / "none.png")
    (tmp_path / "empty").mkdir()
    assert "no images there" in fails("predict.py", tmp_path / "empty")
    assert "--crop" in fails("predict.py", folder, "--crop", "all")
    assert "--abstain-below" in fails("predict.py", folder, "--abstain-below", "2")
    assert "--sets" in fails("predict.py", folder, "--sets", "0.9")
    given = ("--weights", weights)
    assert "has no folder" in fails("predict.py", "-", "--labelled", *given)
    for idle in (("--labelled",), ("--sets", "0.95"), ("--format", "csv")):
        line = fails("predict.py", "--export", tmp_path / "a.onnx", *idle, *given)
        assert f"{idle[0]} does nothing with --export" in line


def test_flags_may_stand_between_paths(predict, folder):
    one, other, *_ = sorted(folder.rglob("*.png"))
    assert len(json.loads(predict(one, "--format", "json", other).out)) == 2


def test_standard_output_that_is_full(weights, folder):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    command = [sys.executable, str(ROOT / "predict.py"), str(folder), "--weights", str(weights)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "predict.py: error: standard output: cannot write: No space left on device"
    ]


def test_reader_that_leaves_early(weights, tmp_path):
    np.save(tmp_path / "cells.npy", np.tile(CELLS, (400, 1, 1, 1)))
    command = [sys.executable, str(ROOT / "predict.py"), str(tmp_path / "cells.npy")]
    command += ["--weights", str(weights), "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"path,label")
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 141


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_what_was_done_before_ctrl_c_is_kept(predict, folder, monkeypatch, form):
    answer, calls = Released.predict, iter(range(100))

    def interrupted(self, *rest):
        if next(calls) == 3:  # the first is a blank image, to check the weights
            raise KeyboardInterrupt
        return answer(self, *rest)

    whole = predict(folder, "--format", form).out
    monkeypatch.setattr(Released, "predict", interrupted)
    outcome = predict(folder, "--format", form, "--batch-size", "3")
    assert outcome.code == 130
    assert outcome.err.strip().endswith("the output holds the images classified so far")
    if form == "json":
        assert json.loads(outcome.out) == json.loads(whole)[:6]
    else:
        assert outcome.out.splitlines() == whole.splitlines()[:7]


def test_export_answers_as_torch_does(predict, weights, tmp_path):
    import onnxruntime

    path = tmp_path / "model.onnx"
    np.save(tmp_path / "cells.npy", CELLS)
    outcome = predict("--export", path, "--views", 8, tmp_path / "cells.npy")
    assert outcome.code == 0, outcome
    assert "12 images: the same label on 12, largest difference" in outcome.out
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = json.loads(predict(tmp_path / "cells.npy", "--views", 8, "--format", "json").out)
    for number in (1, 5):
        probabilities, distances = session.run(None, {"images": CELLS[:number]})
        assert probabilities.shape == (number, 8)
        expected = load_classifier(weights, 8, torch.device("cpu")).classifier
        far = expected.predict(torch.from_numpy(CELLS[:number]))[1]
        assert distances.tolist() == pytest.approx(far.tolist(), abs=1e-5)
        for got, row in zip(probabilities, rows[:number], strict=True):
            assert got.tolist() == pytest.approx(list(row["probabilities"].values()), abs=1e-5)


def test_an_export_that_answers_nothing_is_refused(fails, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "compare", lambda *rest: (float("nan"), 0))
    line = fails("predict.py", "--weights", weights, "--export", tmp_path / "m.onnx")
    assert "onnxruntime differs from torch by nan" in line
    assert not list(tmp_path.iterdir())


def test_export_without_images_checks_drawn_cells(predict, tmp_path):
    assert "192 drawn cells" in predict("--export", tmp_path / "model.onnx").out


def test_export_to_nowhere(fails, weights, tmp_path):
    (tmp_path / "file.txt").touch()
    for path in (tmp_path / "none" / "a.onnx", tmp_path, tmp_path / "file.txt" / "a.onnx", "."):
        assert "--export" in fails("predict.py", "--export", path, "--weights", weights)


def test_export_checked_on_nothing(fails, weights, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(AssertionError, match="none of the images can be used"):
        fails("predict.py", "--export", tmp_path / "a.onnx", tmp_path, "--weights", weights)


RELEASED = ROOT / "weights" / "cnn-robust.safetensors"


def test_released_weights_are_right_about_real_cells(run, real_dataset, tmp_path):
    """The test accuracy of plots/release, by way of predict.py."""
    np.save(tmp_path / "cells.npy", real_dataset.test.images)
    outcome = run("predict.py", tmp_path / "cells.npy", "--format", "json")
    answers = [CLASS_NAMES.index(row["label"]) for row in json.loads(outcome.out)]
    accuracy = np.mean(answers == real_dataset.test.labels)
    measured = json.loads((ROOT / "plots/release/metrics.json").read_text())
    assert accuracy == pytest.approx(measured["released"]["accuracy"]["1"], abs=0.001)
    assert outcome.code == 0


def test_released_weights_are_small_and_match_their_card():
    assert RELEASED.stat().st_size < 3e6
    card = json.loads(RELEASED.with_suffix(".json").read_text())
    assert card["md5"] == md5_of(RELEASED.read_bytes())
    assert card["classes"] == list(CLASS_NAMES)
    assert card["training"]["dataset"]["synthetic"] is False
