"""What the released network sees: errors, suspect labels, maps, on generated images."""

import csv
import hashlib
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shared import seen_by_networks
from written import change, complaints, metrics_of

import explain
from bloodcells import ROOT
from bloodcells.data import bloodmnist, synthetic_cells
from bloodcells.data.bloodmnist import Split
from bloodcells.data.folds import make_folds
from bloodcells.evaluation import calibration, class_activation
from bloodcells.inference.classifier import load_classifier

FLAGS = (
    *("--synthetic", "--device", "cpu", "--folds", 2, "--epochs", 3, "--widths", 4, 8, 8),
    *("--batch-size", 96, "--precision", "float32"),
)


@pytest.fixture(scope="module")
def network():
    path = ROOT / "weights" / "cnn-robust.safetensors"
    return load_classifier(path, 1, torch.device("cpu")).classifier.network


@pytest.fixture(scope="module")
def explained(tmp_path_factory, run_once, weights):
    """The folder of a finished run, and the images that its networks predicted on."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        seen, trained, begin = seen_by_networks(patch), [], explain.set_up
        suspected, suspect_labels = [], explain.suspect_labels
        patch.setattr(
            explain, "suspect_labels", lambda *a: suspected.append(a[1]) or suspect_labels(*a)
        )
        patch.setattr(explain, "set_up", lambda *a: trained.append(a[-1].images) or begin(*a))
        run_once("explain.py", *FLAGS, "--released", weights, "--output", folder)
    return folder, seen, trained, suspected[0]


def test_script(explained):
    folder, predicted, trained, answers = explained
    pool, folds = make_folds("cross-validation", bloodmnist.load(synthetic=True), 2, 1, 0)
    images = pool.to(torch.device("cpu"))
    held_out = [images.choose(fold.held_out).images[:] for fold in folds]
    for own, fold in zip(trained, folds, strict=True):
        assert torch.equal(own[:], images.choose(fold.train).images[:])
    shown = [fold for fold in held_out for _ in range(len(predicted) // 2)]  # by epoch
    assert all(torch.equal(one[:], fold) for one, fold in zip(predicted, shown, strict=True))
    assert complaints(folder / "metrics.json") == []
    found = metrics_of(folder)
    test = synthetic_cells.make()["test"]
    assert len(found["errors"]["rows"]) == explain.SHOWN < found["errors"]["total"]
    assert abs(np.log(found["suspect_labels"]["temperature"])) > 0.1
    assert calibration.fit_temperature(pool.labels, answers) == pytest.approx(1, abs=1e-3)
    for row in found["errors"]["rows"]:
        assert row["predicted"] != row["label"] == test[1][row["index"]]
        assert len(row["neighbours"]) == 5
    rows = found["suspect_labels"]["rows"]
    of_test = found["suspect_labels_of_test"]["rows"]
    assert {row["split"] for row in of_test} == {"test"}
    probabilities = [row["probability_of_label"] for row in rows]
    assert probabilities == sorted(probabilities)
    assert rows
    splits = synthetic_cells.make()
    assert all(splits[row["split"]][1][row["index"]] == row["label"] for row in rows)
    with (folder / "suspect_labels.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + len(rows) + len(of_test)
    assert {path.stem for path in folder.glob("*.png")} == {
        *("errors", "suspect_labels", "activation_maps"),
    }
    assert len(found["activation_maps"]["correlation_with_shuffled_weights"]) == 8


def test_finished_for_other_weights(run, fails, explained, weights, tmp_path):
    flags = (*FLAGS, "--output", shutil.copytree(explained[0], tmp_path / "run"), "--resume")
    assert "finished already" in run("explain.py", *flags, "--released", weights).out
    line = fails("explain.py", *flags)
    assert f"released {weights.name} there, cnn-robust.safetensors now" in line
    other = tmp_path / weights.name
    save_file({name: 2 * values for name, values in load_file(weights).items()}, other)
    shutil.copy(weights.with_suffix(".json"), tmp_path)
    md5 = hashlib.md5(other.read_bytes()).hexdigest()
    change(tmp_path, other.with_suffix(".json").name, md5=md5)
    assert "different weights " in fails("explain.py", *flags, "--released", other)


def test_contradicted_labels_are_ranked_and_found_again():
    dataset = bloodmnist.load(size=28, synthetic=True)
    pool, folds = make_folds("cross-validation", dataset, folds=2, runs=1, seed=0)
    probabilities = np.full((len(pool), 8), 0.01, np.float32)
    probabilities[np.arange(len(pool)), pool.labels] = 0.93
    in_train, in_val = 7, len(dataset.train) + 3
    for row, of_label in ((in_train, 0.03), (in_val, 0.02)):
        probabilities[row, pool.labels[row]] = of_label
        probabilities[row, (pool.labels[row] + 4) % 8] = 0.96
    probabilities[11, pool.labels[11]] = 0.1  # improbable, but still the answer
    runs = [SimpleNamespace(val_probabilities=probabilities[fold.held_out]) for fold in folds]
    gathered = explain.held_out_probabilities(pool, folds, runs)
    found = explain.suspect_labels({"train": dataset.train, "val": dataset.val}, gathered)
    rows = found["rows"]
    assert found["contradicted"] == 2
    assert [(row["split"], row["index"]) for row in rows] == [("val", 3), ("train", 7)]
    assert rows[0]["label"] == dataset.val.labels[3]
    assert rows[0]["predicted"] == (dataset.val.labels[3] + 4) % 8
    assert rows[0]["probability_of_label"] == pytest.approx(0.02)


def test_a_training_cell_is_nearest_to_itself():
    path = ROOT / "weights" / "cnn-robust.safetensors"
    classifier = load_classifier(path, 1, torch.device("cpu")).classifier
    dataset = bloodmnist.load(size=28, synthetic=True)
    dataset = replace(dataset, test=dataset.train)
    probabilities = classifier.predict(torch.from_numpy(dataset.test.images))[0].numpy()
    wrong = explain.errors(classifier, dataset, probabilities, torch.device("cpu"))
    assert len(wrong) == explain.SHOWN
    assert [row["neighbours"][0] for row in wrong] == [row["index"] for row in wrong]
    sure = probabilities.max(1)[probabilities.argmax(1) != dataset.test.labels]
    worst = np.sort(sure)[::-1][: explain.SHOWN]
    assert [row["probability"] for row in wrong] == pytest.approx(worst.tolist())


def test_maps_sum_to_what_the_weights_say_and_change_with_them(network):
    images, labels = synthetic_cells.make()["test"]
    split = Split(images[:4], labels[:4])
    images, labels = map(torch.from_numpy, (split.images, split.labels))
    found = class_activation.class_maps(network, images, labels)
    assert found.shape == (4, 7, 7)
    with torch.inference_mode():
        logits = network(bloodmnist.normalise(images))[torch.arange(4), labels]
    expected = logits - network.classifier.bias[labels]
    torch.testing.assert_close(found.sum((1, 2)), expected, rtol=1e-4, atol=1e-4)
    rows = class_activation.activation_maps(
        network, split, np.arange(4), torch.device("cpu"), seed=0
    )
    assert [row["map"].shape for row in rows] == [(7, 7)] * 4
    assert all(abs(row["correlation"]) < 0.9 for row in rows)
    again = class_activation.activation_maps(
        network, split, np.arange(4), torch.device("cpu"), seed=0
    )
    np.testing.assert_array_equal(rows[0]["shuffled"], again[0]["shuffled"])


def test_what_is_refused(fails, tmp_path):
    line = fails("explain.py", *FLAGS, "--size", 64, "--output", tmp_path)
    assert "are for 28 px" in line
    line = fails("explain.py", *FLAGS, "--released", "none.safetensors", "--output", tmp_path)
    assert "--released" in line
    assert "none.safetensors: " in line
    stages = ROOT / "weights" / "cnn-stages.safetensors"
    line = fails("explain.py", *FLAGS, "--released", stages, "--output", tmp_path)
    assert "its classes are not the data set's eight" in line
    line = fails("explain.py", "--synthetic", "--protocol", "official", "--output", tmp_path)
    assert "only cross-validation holds out every image" in line
