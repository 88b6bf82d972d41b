"""predict.py --labelled: scores of images in folders named after their classes."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from random_weights import changed
from written import metrics_of

from bloodcells.data import synthetic_cells
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.evaluation import labelled
from bloodcells.evaluation.balanced_accuracy import over_slides

CELLS, LABELS = (part[:12] for part in synthetic_cells.make()["test"])


def test_report_against_folder_names(predict, twelve):
    outcome = predict(twelve, "--labelled", "--format", "json")
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


def test_folders_of_slides_within_those_of_classes(fails, predict, twelve, weights):
    for folder in list(twelve.iterdir()):
        (folder / "slide1").mkdir()
        for path in folder.glob("*.*"):
            path.rename(folder / "slide1" / path.name)
    line = fails("predict.py", "--labelled", twelve, "--weights", weights)
    assert "('slide1' is none of " in line
    assert "or, if it is a slide, move its images up, into '" in line
    (path, *_) = sorted((twelve / "basophil" / "slide1").iterdir())
    path.rename(twelve / "basophil" / path.name)
    outcome = predict("--labelled", twelve)
    assert "in folders named 'slide1', which is none of the 8 classes here; map" in outcome.err
    assert "move its images up, into 'basophil', with the slide's name" in outcome.err


def test_hidden_folders_are_left_out(predict, twelve):
    (twelve / ".thumbnails" / "platelet").mkdir(parents=True)
    (twelve / ".cache" / "monocyte").mkdir(parents=True)
    Image.fromarray(CELLS[0]).save(twelve / ".cache" / "monocyte" / "a.png")
    outcome = predict(twelve, "--labelled", "--format", "json")
    assert (outcome.code, len(json.loads(outcome.out))) == (0, 12)


def test_a_link_to_a_class_is_refused(fails, predict, twelve, weights, tmp_path):
    (twelve / "basophil").rename(tmp_path / "elsewhere")
    (twelve / "basophil").symlink_to(tmp_path / "elsewhere")
    line = fails("predict.py", "--labelled", twelve, "--weights", weights)
    assert f"--labelled: {twelve}/basophil: a link to a folder is not followed" in line
    assert predict("--labelled", twelve / "basophil").code == 0


@pytest.mark.usefixtures("drawn_figures")
def test_one_class_that_can_occur(predict, twelve, tmp_path):
    flags = ("--labelled", "--classes", "basophil", "--output", tmp_path / "run")
    outcome = predict(twelve / "basophil", *flags)
    assert outcome.code == 0, outcome
    assert metrics_of(tmp_path / "run")["scores"]["accuracy"]["mean"] == 1
    assert (tmp_path / "run" / "confusion_matrix.png").stat().st_size > 5_000


def test_no_image_to_score(predict, tmp_path):
    (tmp_path / "monocyte").mkdir()
    (tmp_path / "monocyte" / "a.png").write_text("no picture")
    outcome = predict(tmp_path / "monocyte", "--labelled", "--output", tmp_path / "run")
    assert outcome.code == 1
    assert (
        f"{tmp_path}/run: nothing written, since no image whose class is known could be used"
        in outcome.err
    )


def test_folders_of_unknown_names_are_left_out_and_listed(
    predict, fails, twelve, weights, tmp_path
):
    first = min(twelve.iterdir())
    name, count = first.name, len(list(first.iterdir()))
    first.rename(twelve / "smudge")
    outcome = predict(twelve, "--labelled", "--format", "json")
    assert f"left out of the scores: {count} file" in outcome.err
    assert "folders named 'smudge'" in outcome.err
    rows = json.loads(outcome.out)
    assert [row for row in rows if not row["truth"]] == [r for r in rows if "smudge" in r["path"]]
    for extra in ("smudge", "Zzz"):  # the first image's class is unknown, or a later one's
        (twelve / "smudge").rename(twelve / extra)
        lines = predict(twelve, "--labelled", "--format", "csv").out.splitlines()
        header, *rows = csv.reader(lines)
        assert all(len(row) == len(header) for row in rows)
        assert {row[header.index("truth")] for row in rows} > {""}
        (twelve / extra).rename(twelve / "smudge")
    (tmp_path / "names.toml").write_text(f'smudge = "{name}"\n', "utf-8-sig")  # as on Windows
    outcome = predict(twelve, "--labelled", "--names", tmp_path / "names.toml")
    assert "left out" not in outcome.err
    (tmp_path / "names.toml").write_text('smudge = "blast"\n')
    given = ("--labelled", "--weights", weights)
    line = fails("predict.py", twelve, *given, "--names", tmp_path / "names.toml")
    assert "smudge: 'blast' is none of basophil" in line
    (tmp_path / "names.toml").write_text("smudge = ")
    line = fails("predict.py", twelve, *given, "--names", tmp_path / "names.toml")
    assert "names.toml: not a readable TOML file" in line
    line = fails("predict.py", twelve / "smudge", *given)
    assert "no folder is named after a class ('smudge' is none of" in line
    (twelve / "Monocytes2" / "MON").mkdir(parents=True)
    for name in (twelve, f"{twelve}/*"):
        line = fails("predict.py", name, *given)
        assert "MON: named after a class, without images that can be read" in line


def test_scores_in_a_run_folder(predict, twelve, tmp_path):
    outcome = predict(twelve, "--labelled", "--output", tmp_path / "run")
    assert outcome.code == 0, outcome
    found = metrics_of(tmp_path / "run")["scores"]
    assert found["images"] == 12
    most = max(row["images"] for row in found["per_class"])
    assert found["majority_class_accuracy"] == pytest.approx(most / 12)
    assert f"always predicting the most frequent class: {most / 12:.4f}" in outcome.err
    present = {row["class"]: row for row in found["per_class"]}
    assert set(present) == {CLASS_NAMES[label] for label in LABELS}
    assert sum(map(sum, found["confusion_matrix"])) == 12
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, row in present.items():
        right = [one["label"] == name for one in rows if one["truth"] == name]
        assert (row["images"], row["recall"]["mean"]) == (len(right), np.mean(right))
    means = [row["recall"]["mean"] for row in present.values()]
    assert found["balanced_accuracy"]["mean"] == pytest.approx(np.mean(means))
    for score in (found["accuracy"], *(row["recall"] for row in present.values())):
        assert 0 <= score["low"] <= score["mean"] + 1e-9 <= score["high"] + 2e-9
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"predictions.csv", "confusion_matrix.png", "confident_mistakes.png"} <= names


def test_abstentions_are_errors(predict, twelve):
    rows = json.loads(predict(twelve, "--labelled", "--format", "json").out)
    bar = sorted(row["probability"] for row in rows)[6]
    right = [row["label"] == row["truth"] for row in rows]
    named = sum(ok and row["probability"] >= bar for ok, row in zip(right, rows, strict=True))
    assert named < sum(right)
    outcome = predict(twelve, "--labelled", "--abstain-below", bar)
    assert f"accuracy          {named / 12:.4f} [" in outcome.err


@pytest.mark.parametrize("name", ["IG", "immature-granulocytes", "Immature_Granulocyte"])
def test_folder_names_that_mean_a_class(predict, tmp_path, name):
    (tmp_path / name).mkdir()
    Image.fromarray(CELLS[0]).save(tmp_path / name / "a.png")
    (row,) = json.loads(predict(tmp_path, "--labelled", "--format", "json").out)
    assert row["truth"] == "immature granulocyte"


def test_results_of_another_script_stay(fails, quick_run, weights, twelve):
    flags = ("--labelled", twelve, "--weights", weights, "--output", quick_run)
    assert "holds results of model_baseline.py; pass another folder" in fails("predict.py", *flags)


def test_weights_without_a_class_of_normal_blood(fails, weights, tmp_path):
    names = [f"kind {number}" for number in range(8)]
    other = changed(weights, tmp_path / "other.safetensors", classes=names)
    flags = ("--weights", other, "--classes", "normal-differential")
    Image.new("RGB", (28, 28)).save(tmp_path / "cell.png")
    line = fails("predict.py", tmp_path / "cell.png", *flags)
    assert "none is a class of these weights" in line


def test_where_slides_differ_the_intervals_are_wide():
    """Slides whose images are all read or none: far wider than over images."""
    slides = np.repeat(np.arange(12), 20)
    truths = np.array(["basophil", "platelet"])[slides % 2]
    answers = np.where(slides % 4 < 2, truths, "monocyte")
    ones = [SimpleNamespace(truth=t, label=a) for t, a in zip(truths, answers, strict=True)]
    found = labelled.score(ones, CLASS_NAMES, slides)
    recalls = [row["recall"] for row in found["per_class"]]
    for part in (found["accuracy"], found["balanced_accuracy"], *recalls):
        assert part["high"] - part["low"] > 0.3


def test_intervals_over_slides(predict, fails, twelve, weights, tmp_path):
    for number, file in enumerate(sorted(twelve.glob("*/*"))):
        file.rename(file.with_name(f"{'ab'[number % 2]}_{file.name}"))
    outcome = predict(twelve, "--labelled", "--slide", "[^_]+", "--output", tmp_path / "run")
    assert outcome.code == 0, outcome
    assert "intervals are over 2 slides" in outcome.err
    assert "recall with its 95 % interval over slides" in outcome.err
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = [row["label"] == row["truth"] for row in rows]
    slides = np.array(["/b_" in row["path"] for row in rows], int)
    found = metrics_of(tmp_path / "run")["scores"]
    assert found["slides"] == 2
    assert found["accuracy"] == over_slides(np.zeros(12), np.array(right), slides)
    truths = np.array([row["truth"] for row in rows])
    assert found["balanced_accuracy"] == over_slides(truths, np.array(right), slides)
    for row in found["per_class"]:
        mine = truths == row["class"]
        assert row["recall"]["mean"] == np.mean(np.array(right)[mine])
        assert row["slides"] == len(set(slides[mine]))
    for file in twelve.glob("*/b_*"):
        file.write_bytes(b"damaged")
    outcome = predict(twelve, "--labelled", "--slide", "[^_]+", "--output", tmp_path / "one")
    assert outcome.code == 1
    assert "all images are of one slide, 'a'; intervals are over images" in outcome.err
    assert metrics_of(tmp_path / "one")["scores"]["slides"] is None
    arrays = tmp_path / "arrays" / "basophil"
    arrays.mkdir(parents=True)
    for name in "ab":
        np.save(arrays / f"{name}.npy", CELLS[:3])
    outcome = predict(arrays.parent, "--labelled", "--slide", ".")
    assert "intervals are over 2 slides" in outcome.err  # of six images in two files
    given = (arrays.parent, "--weights", weights, "--slide")
    line = fails("predict.py", *given, "c", "--labelled")
    assert "its name does not begin so" in line
    assert "--slide does nothing without --labelled" in fails("predict.py", *given, "c")


def test_a_class_that_has_to_be_sorted_by_stage(run, twelve):
    outcome = run("predict.py", "--labelled", twelve, "--labels", "stages")
    assert "'neutrophil', which is none of the 11 classes here; it is a class, whose" in outcome.err
    assert "sorted by stage: band neutrophil, segmented neutrophil" in outcome.err
    assert "--names" not in outcome.err
