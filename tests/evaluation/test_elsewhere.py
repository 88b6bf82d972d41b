"""Another laboratory's images, read for a study."""

import numpy as np
import pytest
import torch
from shared import ROOT

from bloodcells.data import synthetic_cells
from bloodcells.data.bloodmnist import CLASS_NAMES, Split
from bloodcells.errors import UserError
from bloodcells.evaluation import elsewhere
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
