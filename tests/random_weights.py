"""A random released network, predict.py with it, and folders of images to classify."""

import json

import pytest
import torch
from PIL import Image

import models
from bloodcells.data import bloodmnist, synthetic_cells
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.inference.cards import NORMALISATION
from bloodcells.inference.classifier import Classifier, save_classifier

FREQUENCIES = [0.3, *[0.1] * 7]  # of the classes, in the card of `weights`


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A random network, released: it answers anything, always the same."""
    torch.manual_seed(0)
    network = models.build("CellNet", 28, (4, 8, 8)).eval()
    classifier = Classifier(network, torch.eye(8))
    sets = {"0.95": 0.05, "0.99": 0.01}
    card = {
        "model": "CellNet",
        "widths": [4, 8, 8],
        "size": 28,
        "parameters": models.count_parameters(network),
        "normalisation": NORMALISATION,
        "classes": list(bloodmnist.CLASS_NAMES),
        "calibration": {
            "1": {"temperature": 0.5, "sets": sets},
            "8": {"temperature": 0.25, "sets": sets},
        },
        "farthest": 1e9,
        "frequencies": FREQUENCIES,
    }
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_classifier(path, classifier, card)
    return path


def changed(weights, target, **entries):
    """A copy of the weights whose card has other entries."""
    target.write_bytes(weights.read_bytes())
    card = json.loads(weights.with_suffix(".json").read_text())
    target.with_suffix(".json").write_text(json.dumps({**card, **entries}))
    return target


@pytest.fixture
def predict(run, weights):
    """Runs predict.py with the random network."""
    return lambda *flags: run("predict.py", "--weights", weights, "--device", "cpu", *flags)


@pytest.fixture
def sorted_cells(tmp_path):
    """Writes generated test images into folders named after their classes; returns the folder."""

    def write(count, side=28, name="sorted"):
        pixels, labels = (part[:count] for part in synthetic_cells.make()["test"])
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            path = tmp_path / name / CLASS_NAMES[label].replace(" ", "_") / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((side, side)).save(path)
        return tmp_path / name

    return write


@pytest.fixture
def twelve(sorted_cells):
    """The folder of twelve such images."""
    return sorted_cells(12)
