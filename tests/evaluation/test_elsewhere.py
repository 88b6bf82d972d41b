"""Another laboratory's images, read for a study."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from shared import ROOT

from bloodcells.data import corruptions, synthetic_cells
from bloodcells.data.bloodmnist import CLASS_NAMES, Split
from bloodcells.errors import UserError
from bloodcells.evaluation import elsewhere, unseen
from bloodcells.inference.cards import LEVELS
from bloodcells.inference.classifier import load_classifier


def test_images_that_are_not_framed_are_counted(sorted_cells, capsys):
    elsewhere.read(sorted_cells(4, side=70, name="a"), 28)
    assert "MedMNIST" not in capsys.readouterr().out
    found = elsewhere.read(sorted_cells(4, side=64, name="b"), 28)
    assert (len(found.images), found.unusable, found.slides) == (4, 0, None)
    assert (
        "b: 4 images have a size of MedMNIST's, so they are not framed" in capsys.readouterr().out
    )


def test_the_data_set_s_own_images_are_refused(sorted_cells):
    with pytest.raises(UserError, match="4 of its images have a size of the data set's own"):
        elsewhere.read(sorted_cells(4), 28)


def test_smears_are_as_normal_blood():
    labels = np.repeat(np.arange(8), 120)
    for rows in elsewhere.normal_smears(labels):
        assert len(set(rows)) == len(rows) == 169
        counts = dict(zip(CLASS_NAMES, np.bincount(labels[rows], minlength=8), strict=True))
        assert counts == dict.fromkeys(CLASS_NAMES, 0) | elsewhere.NORMAL_SMEAR
    assert elsewhere.normal_smears(labels[labels != 0]) == []
    again = np.stack([elsewhere.normal_smears(labels) for _ in range(2)])  # the same for all models
    assert np.array_equal(*again)
    assert not np.array_equal(again[0, 0], again[0, 1])


def test_intervals_are_over_slides():
    """Slides whose images are all read or none: far wider than over images."""
    slides = np.repeat(np.arange(12), 20)
    labels = slides % 2
    answers = np.eye(8)[np.where(slides % 4 < 2, labels, 7)]
    images = Split(np.zeros((240, 1, 1, 3), np.uint8), labels)
    there = elsewhere.Laboratory("wbc", images, slides, ".", 0)
    found = elsewhere.summary(there, [{8: {"probabilities": answers}}])["views"]["8"]
    for part in (found["over_slides"], found["recalls_over_slides"]["basophil"]):
        assert part["high"] - part["low"] > 0.3


def test_scores_by_hand():
    """Three classes, of which one is absent; sets hold what has at least a half."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.3, 0.6], [0.2, 0.6, 0.2]])
    labels = np.array([0, 0, 1, 1])
    model = SimpleNamespace(sets=dict.fromkeys(LEVELS, 0.5))
    found = elsewhere.scores(labels, probabilities, model)
    assert found["balanced_accuracy"] == found["accuracy"] == 0.5
    assert found["sets"]["0.95"] == {"coverage": 0.5, "size": 1.0}
    shares = elsewhere.answers(labels, np.pad(probabilities, ((0, 0), (0, 5))))
    assert list(shares) == [CLASS_NAMES[0], CLASS_NAMES[1]]
    assert shares[CLASS_NAMES[0]][CLASS_NAMES[1]] == 0.5
    assert shares[CLASS_NAMES[1]][CLASS_NAMES[2]] == 0.5


def test_images_beyond_the_bound_are_unlike():
    pixels, labels = synthetic_cells.make()["test"]
    model = load_classifier(ROOT / "weights/cnn-robust.safetensors", 1, torch.device("cpu"))
    _, distances = elsewhere.predict(model, Split(pixels, labels))
    strict = replace(model, farthest=float(np.quantile(distances, 0.25)))
    found = elsewhere.score(strict, Split(pixels, labels))
    assert found["unlike"] == pytest.approx(0.75, abs=0.01)


def test_another_laboratory_s_classes_are_taken_as_equally_frequent():
    pixels, labels = synthetic_cells.make()["test"]
    model = load_classifier(ROOT / "weights/cnn-robust.safetensors", 1, torch.device("cpu"))
    every = model.classifier.predict(torch.from_numpy(pixels))[0].numpy() / model.frequencies
    found, _ = elsewhere.predict(model, Split(pixels, labels))
    np.testing.assert_allclose(found, every / every.sum(1, keepdims=True), rtol=1e-4)


def test_equal_frequencies_and_corruptions_by_hand(monkeypatch):
    """Where the frequent class is a little more probable, the rare one is meant."""
    found = torch.tensor([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.1, 0.2, 0.7]])
    monkeypatch.setattr(unseen, "predict", lambda *_: found)
    monkeypatch.setattr(unseen, "on_device_of", lambda *_: None)
    images = SimpleNamespace(images=None, labels=np.array([1, 0, 1]))
    scores = unseen.elsewhere_accuracy(None, images, np.array([0.7, 0.2, 0.1]), 1)
    assert scores == {"all": 0.75, "given": 1.0}
    kinds = list(corruptions.CORRUPTIONS)[:2]
    versions = [(None, 0, "x"), (kinds[0], 1, 0.5), (kinds[0], 2, 0.7), (kinds[1], 1, 0.1)]
    monkeypatch.setattr(corruptions, "versions", lambda *_: versions)
    monkeypatch.setattr(unseen, "accuracy", lambda network, images, labels: images)
    assert unseen.corrupted_accuracy(None, images, 0) == pytest.approx(
        {kinds[0]: 0.6, kinds[1]: 0.1}
    )


def test_adapting_by_nothing_changes_no_score(monkeypatch):
    monkeypatch.setattr(elsewhere, "adapt", lambda model, *_: (model, None))
    monkeypatch.setattr(elsewhere, "NORMAL_SMEAR", {"neutrophil": 6, "monocyte": 2})
    pixels, labels = synthetic_cells.make()["test"]
    kept = labels > 0  # so that a class's number is not its column
    model = load_classifier(ROOT / "weights/cnn-robust.safetensors", 1, torch.device("cpu"))
    found = elsewhere.score(model, Split(pixels[kept], labels[kept]))
    assert found["adapted"] == found["balanced_accuracy"]
    assert found["adapted_given_classes"] == found["given_classes"]["balanced_accuracy"]
    assert found["smear_adapted"] == found["smear"]
