"""finetune.py: the last layer fitted to a laboratory's images, on generated ones."""

import csv
import errno
import json
import shutil
import unicodedata
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image
from shared import ROOT
from written import complaints, metrics_of

import finetune as finetune_script
from bloodcells.data import image_files, synthetic_cells
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.evaluation import calibration, fine_tuned
from bloodcells.inference import fine_tuning
from bloodcells.inference.classification import frame_of
from bloodcells.inference.classifier import load_classifier
from bloodcells.inference.fine_tuning import holds_for
from bloodcells.tracking import run_folder

ABSENT = ("erythroblast", "platelet")


@pytest.fixture
def laboratory(tmp_path):
    """Generated images of six classes under three slides' names, in folders named after classes."""
    images, labels = synthetic_cells.make()["test"]
    for number, (image, label) in enumerate(zip(images[:96], labels[:96], strict=True)):
        if CLASS_NAMES[label] not in ABSENT:
            folder = tmp_path / "sorted" / CLASS_NAMES[label].replace(" ", "_")
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"slide{number % 3}_{number}.npy", image[None])
    return tmp_path / "sorted"


@pytest.fixture
def finetune(run, weights, tmp_path, monkeypatch):
    """Runs finetune.py from the random network."""
    monkeypatch.setattr(fine_tuned, "DRAWS", 2)
    monkeypatch.setattr(fine_tuning, "MOST_STEPS", 20)
    flags = ("--weights", weights, "--device", "cpu", "--output", tmp_path / "mine")
    return lambda *more: run("finetune.py", *more, *flags)


@pytest.fixture
def studied(monkeypatch):
    """The labels and the held-out probabilities of each fit that finetune.py scores."""
    kept = []

    def study(model, images, seed):
        scores, held_out = fine_tuned.study(model, images, seed)
        kept.append((images.labels, held_out))
        return scores, held_out

    monkeypatch.setattr("finetune.study", study)
    return kept


def test_the_card_is_calibrated_on_what_was_held_out(
    finetune, laboratory, weights, tmp_path, studied
):
    (laboratory / "basophil" / "slide0_bad.npy").write_text("no array")
    (laboratory / "smudge").mkdir()
    np.save(laboratory / "smudge" / "slide0_x.npy", np.zeros((1, 28, 28, 3), np.uint8))
    outcome = finetune(laboratory, "--slide", "slide.")
    assert outcome.code == 0, outcome
    assert "slide0_bad.npy: not an array file" in outcome.out
    assert "smudge" in outcome.out
    card = json.loads((tmp_path / "mine" / "finetuned.json").read_text())
    assert card["frequencies"] == [1 / 8] * 8
    released = json.loads(weights.with_suffix(".json").read_text())["calibration"]
    ((labels, held_out),) = studied
    for views, answers in held_out.items():
        found = card["calibration"][str(views)]
        fitted = calibration.fit_temperature(labels, answers)
        assert found["temperature"] == max(fitted, released[str(views)]["temperature"])
        calibrated = calibration.apply_temperature(answers, found["temperature"])
        of_the_truth = calibrated[np.arange(len(labels)), labels]
        for level, least in found["sets"].items():
            assert (of_the_truth >= least).mean() >= float(level)


def test_a_random_network_learns_a_laboratory(
    finetune, run, fails, laboratory, weights, tmp_path, studied
):
    outcome = finetune(laboratory, "--slide", "slide.")
    assert outcome.code == 0, outcome
    folder = tmp_path / "mine"
    assert complaints(folder / "metrics.json") == []
    found = metrics_of(folder)
    assert found["slides"] == 3
    assert found["fine_tuned"]["mean"] > found["released"]["mean"] + 0.1
    gain = found["fine_tuned"]["mean"] - found["released"]["mean"]
    assert found["gain"]["mean"] == pytest.approx(gain)
    assert found["gain"]["low"] <= gain <= found["gain"]["high"]
    assert "95 % intervals over 3 slides; too narrow for so few]" in outcome.out
    assert "finetuned.safetensors --views 8 IMAGES" in outcome.out
    assert "all on one slide" not in outcome.out
    flags = ("--weights", weights, "--labelled", "--views", 8)
    text = run("predict.py", laboratory, *flags).err
    assert f"balanced accuracy {found['released']['mean']:.4f} [" in text
    classes = ",".join(row["class"] for row in found["classes"])
    text = run("predict.py", laboratory, *flags, "--classes", classes).err
    assert f"balanced accuracy {found['given_classes']['mean']:.4f} [" in text
    assert found["paired"]["p"] < 0.01
    assert found["paired"]["only_second"] > found["paired"]["only_first"]  # right once fitted
    assert [row["images_of_each_class"] for row in found["curve"]] == [3]
    assert {row["class"] for row in found["classes"]} == {*CLASS_NAMES} - {*ABSENT}
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    recalls = [
        np.mean([row["label"] == name for row in rows if row["truth"] == name])
        for name in {row["truth"] for row in rows}
    ]
    assert found["fine_tuned"]["mean"] == pytest.approx(np.mean(recalls))
    ((_, held_out),) = studied
    card = json.loads((folder / "finetuned.json").read_text())["calibration"]["8"]
    calibrated = calibration.apply_temperature(held_out[8], card["temperature"]).max(1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], calibrated, atol=1e-4)
    assert {path.name for path in folder.iterdir()} == {
        *("metrics.json", "predictions.csv", "confusion_matrix.png", "label_curve.png"),
        *("finetuned.safetensors", "finetuned.json"),
    }

    fitted = ("--weights", folder / "finetuned.safetensors")
    outcome = run("predict.py", laboratory, "--labelled", *fitted, "--views", 8, "--format", "json")
    assert outcome.code == 0, outcome
    rows = json.loads(outcome.out)
    assert np.mean([row["label"] == row["truth"] for row in rows]) > found["fine_tuned"]["mean"]
    assert "if the weights were fitted to these images, the scores are too high" in outcome.err
    assert "fitted to a laboratory already" in fails("predict.py", laboratory, "--adapt", *fitted)
    line = fails("finetune.py", laboratory, *fitted, "--output", tmp_path / "again")
    assert "fitted to a laboratory already; begin anew" in line
    assert run("report.py", "--draw", folder, "--figure-format", "svg").code == 0
    assert (folder / "label_curve.svg").exists()


def test_a_full_disk_keeps_the_earlier_fit(finetune, laboratory, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert finetune(laboratory, "--slide", "slide.").code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    monkeypatch.setattr(run_folder, "write_json", full)  # after the weights
    next((laboratory / "basophil").iterdir()).unlink()  # so that the fit is another one
    outcome = finetune(laboratory, "--slide", "slide.")
    assert outcome.code == 2
    assert "No space left on device" in outcome.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before


def test_without_slides_each_image_is_its_own(finetune, laboratory, tmp_path):
    decomposed = unicodedata.normalize("NFD", "Säbelkernige")  # as a Mac may name it
    (laboratory / "neutrophil").rename(laboratory / decomposed)
    names = tmp_path / "names.toml"
    names.write_text('"Säbelkernige" = "neutrophil"\n', "utf-8")
    values = synthetic_cells.make()["test"][0][:2]
    Image.fromarray(values[0]).resize((64, 64)).save(
        laboratory / "basophil" / "two.gif",
        save_all=True,
        append_images=[Image.fromarray(values[1]).resize((64, 64))],
    )
    outcome = finetune(laboratory, "--names", names, "--seed", 2**32 - 1)
    assert outcome.code == 0, outcome
    assert "basophil/two.gif: the first of several frames" in outcome.out
    assert "\n1 of " in outcome.out
    assert "or of MedMNIST's, so they are not framed; for another laboratory's" in outcome.out
    assert metrics_of(tmp_path / "mine")["dataset"]["counts"]["neutrophil"] > 0
    assert "images of one slide may be on both sides" in outcome.out
    found = metrics_of(tmp_path / "mine")
    assert found["slides"] is found["at_random"] is None


def test_the_released_network_takes_a_laboratory_s_classes_as_equally_frequent(laboratory, weights):
    model = load_classifier(weights, 1, torch.device("cpu"))
    paths = [str(laboratory)]
    args = Namespace(paths=paths, names=None, frame="none", slide=None)
    images = finetune_script.read(args, image_files.find(paths), model)
    pixels = np.stack([np.load(name.partition("[")[0])[0] for name in images.files])
    every = model.classifier.predict(torch.from_numpy(pixels))[0].numpy() / model.frequencies
    np.testing.assert_allclose(images.released, every / every.sum(1, keepdims=True), rtol=1e-4)


def test_what_is_refused(fails, laboratory, weights, tmp_path):
    def complaint(*flags):
        return fails("finetune.py", *flags, "--weights", weights, "--output", tmp_path / "mine")

    line = fails("finetune.py", laboratory, "--weights", weights, "--output", laboratory / "mine")
    assert f"--output {laboratory / 'mine'}: within {laboratory}, where the images are" in line
    assert "all images are of one slide, 'slide'" in complaint(laboratory, "--slide", "slide")
    assert "is no regular expression" in complaint(laboratory, "--slide", "(")
    assert "is no regular expression" in complaint(laboratory, "--slide", "a{4294967296}")
    assert "is no regular expression" in complaint(laboratory, "--slide", "(" * 3000)
    assert "matches an empty name" in complaint(laboratory, "--slide", "x*")
    assert "no folder is named after a class" in complaint(ROOT / "docs" / "examples")
    line = fails("finetune.py", "--weights", weights, "--output", tmp_path / "mine", "--", "-none")
    assert "-none: no such file or folder" in line
    one = laboratory / "basophil"
    assert "at least two classes are needed" in complaint(one)
    for path in sorted(one.iterdir())[4:]:
        path.unlink()
    assert "basophil has fewer than 5 usable images" in complaint(laboratory)
    shutil.rmtree(laboratory)
    assert "no such file or folder" in complaint(laboratory)


def test_images_are_framed_as_those_that_the_weights_were_fitted_to(
    finetune, run, laboratory, tmp_path
):
    assert finetune(laboratory, "--frame", "none").code == 0
    weights, blank = tmp_path / "mine" / "finetuned.safetensors", tmp_path / "blank.png"
    Image.new("RGB", (100, 100), "white").save(blank)
    assert frame_of(weights) == "none"
    assert run("predict.py", blank, "--weights", weights).code == 0
    outcome = run("predict.py", blank, "--weights", weights, "--frame", "cell")
    assert outcome.code == 1
    assert "no stained cell found" in outcome.err
    outcome = run("predict.py", "--detect", blank, "--weights", weights)
    assert "fitted to --frame none, but --detect cuts cells out by nucleus" in outcome.err
    cell = next((laboratory / "basophil").iterdir())
    outcome = run("predict.py", cell, "--frame", "cell", "--weights", weights)
    assert "promise nothing for them, unless they are of the slides fitted to" in outcome.err


def test_a_class_on_one_slide_is_told(finetune, laboratory, tmp_path):
    for path in list((laboratory / "basophil").iterdir()):
        path.rename(
            path.with_name(path.name.replace("slide1", "slide0").replace("slide2", "slide0"))
        )
    outcome = finetune(laboratory, "--slide", "slide.")
    assert outcome.code == 0, outcome
    assert holds_for(tmp_path / "mine" / "finetuned.safetensors") == "the laboratory fitted to"
    assert (
        "basophil: all on one slide: while this is held out, the fit has no labels" in outcome.out
    )
