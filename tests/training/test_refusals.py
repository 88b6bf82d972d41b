"""Experiments that cannot be made are refused before they train."""

from dataclasses import replace

import numpy as np
import pytest

from bloodcells.data import bloodmnist
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import summarise
from bloodcells.training import distributed
from bloodcells.training.refusals import refuse_few_test_images, refuse_idle_randomisation


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # of an AUC that there is not
@pytest.mark.parametrize("others", [1, 3, 5, 7, 9, 15, 40])
def test_too_few_test_images_of_other_classes_are_refused(others):
    dataset = bloodmnist.load(None, 28, synthetic=True)
    labels = np.full(len(dataset.test), 7)
    labels[:others] = 0
    dataset = replace(dataset, test=replace(dataset.test, labels=labels))
    interval = summarise(labels, np.eye(8, dtype=np.float32)[labels][None])["auc_macro"]
    if np.isfinite(interval["low"]):
        refuse_few_test_images(dataset)
    else:
        with pytest.raises(UserError, match=f"only {others} are not of the class 'platelet'"):
            refuse_few_test_images(dataset)


@pytest.mark.parametrize(
    ("share", "focus", "batch", "processes", "refused"),
    [
        (0.5, 0.3, 64, 1, None),
        (0.5, 0.3, 64, 64, "of 1 image at a time it would change none"),
        (0.5, 0.3, 64, 128, None),
        (0.005, 0, 64, 1, "of 64 images at a time it would change none"),
        (0.995, 0.3, 64, 1, "of 64 images at a time it would change all, so that --focus"),
        (0.995, 0, 64, 1, None),
        (0.9, 0.3, 64, 1, None),
    ],
)
def test_domain_randomisation_of_none_or_all(monkeypatch, share, focus, batch, processes, refused):
    monkeypatch.setattr(distributed, "size", lambda: processes)
    if refused is None:
        refuse_idle_randomisation(share, focus, batch)
    else:
        with pytest.raises(UserError, match=refused):
            refuse_idle_randomisation(share, focus, batch)


def test_domain_randomisation_of_none_is_refused_before_training(fails, tmp_path):
    flags = ("--config", "cnn-robust", "--synthetic", "--domain-randomisation", 0.005)
    line = fails("model_cnn.py", *flags, "--output", tmp_path / "run")
    assert "--domain-randomisation 0.005: of 64 images at a time" in line
