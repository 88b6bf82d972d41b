"""What a release measures of a network: fitted on validation, scored on test."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bloodcells.data.bloodmnist import Split
from bloodcells.evaluation import calibration, uncertainty


def answers(seed, sharpness):
    """Labels (400,) and probabilities (400, 4) that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=400)
    logits = sharpness * (np.eye(4)[labels] + rng.normal(0, 0.6, (400, 4)))
    return labels, torch.from_numpy(logits).softmax(1).numpy()


def test_temperature_and_sets_are_fitted_on_validation_alone():
    val, test = answers(0, 3), answers(1, 9)
    found = uncertainty.fit_and_score(*val, *test)
    assert found["temperature"] == calibration.fit_temperature(*val)
    sharp_val, sharp = (
        calibration.apply_temperature(part, found["temperature"]) for _, part in (val, test)
    )
    for level, least in found["sets"].items():
        assert least == calibration.set_threshold(val[0], sharp_val, float(level))
        assert found["set_scores"][level] == calibration.set_scores(test[0], sharp, least)
    assert found["before"] == calibration.scores(*test)
    assert found["after"] == calibration.scores(test[0], sharp)


class Brightness:
    """A classifier whose distances are the images' values."""

    def __init__(self):
        self.views, self.means = 1, torch.zeros(1)

    def predict(self, images):
        values = images[:, 0, 0, 0].double()
        return torch.full((len(images), 2), 0.5), values


def bright(*values):
    images = np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    return Split(images, np.arange(len(values)) % 2, ["a", "b"])


@pytest.mark.parametrize(("false_alarms", "bound"), [(0.2, 8), (0.5, 5)])
def test_the_bound_of_unlike_images_is_that_of_validation(false_alarms, bound, monkeypatch):
    monkeypatch.setattr(uncertainty, "fit_and_score", lambda *_: None)
    data = SimpleNamespace(val=bright(*range(11)), test=bright(90, 91))
    strange = {"dark": bright(0, 1, 2).images}
    found = uncertainty.measure(Brightness(), data, strange, false_alarms)
    assert found["farthest"] == bound
    assert found["distances"][uncertainty.CELLS].tolist() == [90, 91]
    assert found["distances"]["dark"].tolist() == [0, 1, 2]


def test_what_rounding_changes_is_of_the_saved_answers(tmp_path):
    """Of four images, the saved model is right about three, and the rounded one about one."""
    labels, saved, rounded = np.array([0, 0, 1, 1]), [0, 0, 1, 0], [1, 0, 0, 0]
    before, after = np.eye(2)[[saved]], np.eye(2)[[rounded]]
    names = ("labels", "probabilities", "val_labels", "val_probabilities")
    parts = dict(zip(names, (labels, before, labels, after), strict=True))
    np.savez(tmp_path / "predictions.npz", **parts)
    run = SimpleNamespace(folder=tmp_path, metrics={"config": {"views": 1}})
    member = {"views": {1: {"probabilities": {"before": after[0], "val": after[0]}}}}
    found = uncertainty.rounding(run, [member])
    test = {"only_first": 2, "only_second": 0, "p": 0.5}
    assert found["test"] == {"labels_changed": [2], "largest_difference": 1, "mcnemar": [test]}
    assert found["val"]["labels_changed"] == [0]
