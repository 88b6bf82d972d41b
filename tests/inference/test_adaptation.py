"""Adaptation takes away what another laboratory adds to all images, and nothing else."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from written import complaints, metrics_of

from bloodcells.errors import UserError
from bloodcells.inference.adaptation import DOUBT, FEWEST, adapt
from bloodcells.inference.classifier import Classifier, Released, class_means

COLOURS = np.array([[90, 90, 160], [160, 90, 90], [90, 160, 90]])  # of three classes
CAST = np.array([50, -40, 0])  # another laboratory's


class Colours(nn.Module):
    """A network whose features are an image's mean colour."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(3, 3)
        means = torch.tensor(COLOURS / 127.5 - 1, dtype=torch.float32)
        self.classifier.weight.data = 20 * means
        self.classifier.bias.data = -10 * means.square().sum(1)

    def features(self, x):
        return x.mean((2, 3))

    def forward(self, x):
        return self.classifier(self.features(x))


def images(counts, cast=0):
    """Images of so many of each class, uint8, and their labels."""
    labels = np.repeat(np.arange(3), counts)
    rng = np.random.default_rng(0)
    shape = (len(labels), 8, 8, 3)
    pixels = COLOURS[labels][:, None, None] + cast + rng.normal(0, 8, shape)
    pixels += rng.normal(0, 12, (len(labels), 1, 1, 3))
    return pixels.clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def model():
    network, (pixels, labels) = Colours(), images([50, 50, 50])
    features = network.features(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    classifier = Classifier(network, class_means(features, torch.from_numpy(labels))).eval()
    names = ["blue", "red", "green"]
    return Released(classifier, names, [0, 1, 2], 8, {}, 1e9, np.full(3, 1 / 3))


def recall(model, pixels, labels):
    probabilities, _ = model.predict(pixels, np.ones(len(pixels), bool), batch_size=32)
    right = probabilities.argmax(1) == labels
    return np.mean([right[labels == label].mean() for label in range(3)])


@pytest.mark.parametrize("counts", [[40, 40, 40], [90, 20, 10]])
def test_a_colour_cast_is_taken_away(model, counts):
    pixels, labels = images(counts, CAST)
    before = recall(model, pixels, labels)
    adapted, found = adapt(model, pixels, batch_size=32)
    assert before < 0.8
    assert recall(adapted, pixels, labels) > before + 0.1
    assert found.images == sum(counts)
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-5)
    assert found.offsets["red"] < 0  # too many were called red


def test_images_like_the_training_images_change_nothing(model):
    pixels, _ = images([40, 40, 40])
    _, found = adapt(model, pixels, batch_size=32)
    assert np.abs(list(found.offsets.values())).max() < 0.3


def test_of_some_classes_the_shift_is_theirs(model):
    """By hand: what the named classes' features lie beside their own means at home."""
    part, (pixels, _) = model.among(["red", "green"]), images([0, 60, 60], CAST // 4)
    probabilities, _ = part.predict(pixels, np.ones(120, bool), batch_size=32)
    colours = pixels.mean((1, 2)) / 127.5 - 1
    counts = probabilities.sum(0)
    home = model.classifier.means.numpy()[[1, 2]]
    belief = counts / (counts + DOUBT)
    difference = probabilities.T @ colours / counts[:, None] - home
    shift = (belief[:, None] * difference).sum(0) / belief.sum()
    weight = model.classifier.network.classifier.weight.detach().numpy()
    _, found = adapt(part, pixels, batch_size=32)
    expected = dict(zip(("red", "green"), (-weight @ shift)[[1, 2]], strict=True))
    assert found.offsets == pytest.approx(expected, abs=1e-3)


def test_the_model_itself_is_not_changed(model):
    bias = model.classifier.network.classifier.bias.clone()
    adapt(model, images([40, 40, 40], CAST)[0], batch_size=32)
    assert torch.equal(bias, model.classifier.network.classifier.bias)


@pytest.mark.parametrize(
    ("counts", "words"),
    [([FEWEST - 2, 1, 0], f"at least {FEWEST}"), ([60, 2, 2], "one class, blue")],
)
def test_too_few_images_and_one_class_are_refused(model, counts, words):
    with pytest.raises(UserError, match=words):
        adapt(model, images(counts)[0], batch_size=32)


def test_adapting_to_another_laboratory(predict, fails, weights, twelve, tmp_path, monkeypatch):
    # the random network names one class nearly always
    monkeypatch.setattr("bloodcells.inference.adaptation.MOST_OF_ONE_CLASS", 1.0)
    for number, path in enumerate(3 * sorted(twelve.rglob("*.png"))):
        copy = tmp_path / "large" / path.parent.name / f"{number}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((56, 56)).save(copy)
    flags = ("--labelled", "--frame", "none", "--format", "json", tmp_path / "large")
    before = predict(*flags)
    outcome = predict(*flags, "--adapt", "--output", tmp_path / "run")
    assert "adapted to 36 images, which before were: basophil " in outcome.err
    assert complaints(tmp_path / "run" / "metrics.json") == []
    stored = metrics_of(tmp_path / "run")["adaptation"]
    assert stored["images"] == 36
    means = [
        np.mean([list(row["probabilities"].values()) for row in json.loads(out)], axis=0)
        for out in (before.out, outcome.out)
    ]
    assert list(stored["shares"].values()) == pytest.approx(means[0].tolist(), abs=1e-6)
    assert abs(means[0] - means[1]).max() > 1e-3
    line = fails("predict.py", twelve, "--weights", weights, "--adapt")
    assert "--adapt: 12 of 12 images have a size of the data set's own" in line
    line = fails("predict.py", copy, "--weights", weights, "--adapt", "--frame", "none")
    assert "--adapt: at least 36 usable images" in line
    Image.new("RGB", (90, 90), "white").save(tmp_path / "blank.png")
    outcome = predict(tmp_path / "blank.png", "--adapt")  # which names the image, too
    assert outcome.code == 2
    assert "--adapt: none of the images can be used" in outcome.err.splitlines()[-1]
    line = fails("predict.py", "--weights", weights, "--adapt", "--export", tmp_path / "a.onnx")
    assert "--adapt does nothing with --export" in line
