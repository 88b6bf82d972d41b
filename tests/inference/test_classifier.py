"""The released classifier: fused, distant, stored."""

import errno
import subprocess
import sys

import numpy as np
import pytest
import torch
from drawn import noise
from random_weights import changed
from safetensors.torch import load_file
from scipy.spatial.distance import cdist
from shared import ROOT

import models
from bloodcells.data import bloodmnist
from bloodcells.errors import UserError
from bloodcells.inference import fine_tuning
from bloodcells.inference.classifier import (
    Classifier,
    class_means,
    features,
    fuse,
    load_classifier,
    mean_features,
    save_classifier,
)
from bloodcells.tracking import run_folder
from bloodcells.training.augmentation import view


def test_weights_are_loaded_without_torch_s_compiler(weights):
    """It takes longer to load than all else that predict.py needs."""
    code = (
        "import sys; from pathlib import Path; import torch; "
        "from bloodcells.inference.loading import load; "
        "model = load(Path(sys.argv[1]), 1, torch.device('cpu')); "
        "print(model.classes[0], 'torch._dynamo' in sys.modules)"
    )
    command = (sys.executable, "-c", code, weights)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "basophil False\n", done.stderr


def random_classifier(views=1):
    torch.manual_seed(0)
    network = models.build("CellNet", 28, (4, 8, 8))
    images = torch.randint(256, (64, 28, 28, 3), dtype=torch.uint8)
    network.train()(bloodmnist.normalise(images))  # batch statistics that are not 0 and 1
    classifier = Classifier(network.eval(), torch.eye(8))
    classifier.views = views
    return classifier, images


def test_fused_network_answers_the_same():
    classifier, images = random_classifier(views=8)
    before = classifier.predict(images)
    fuse(classifier)
    assert not [m for m in classifier.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for one, other in zip(before, classifier.predict(images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_distance_is_the_cosine_distance_from_the_nearest_class():
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 8
    features = torch.rand(400, 8, generator=rng) + labels[:, None] * torch.eye(8)[labels]
    classifier, images = random_classifier()
    classifier.means = class_means(features, labels)
    means = np.stack([features[labels == c].mean(0) for c in range(8)])
    with torch.inference_mode():
        seen = classifier.network.features(bloodmnist.normalise(images)).numpy()
    expected = cdist(seen, means, "cosine").min(1)
    np.testing.assert_allclose(classifier.predict(images)[1].numpy(), expected, atol=1e-5)


def test_a_full_disk_keeps_the_earlier_weights_and_their_card(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    classifier, _ = random_classifier()
    save_classifier(tmp_path / "w.safetensors", classifier, {"number": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    classifier.network.classifier.bias.data += 1
    monkeypatch.setattr(run_folder, "write_json", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_classifier(tmp_path / "w.safetensors", classifier, {"number": 2})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_are_stored_in_half_precision(tmp_path):
    classifier, _ = random_classifier()
    save_classifier(tmp_path / "w.safetensors", classifier, {})
    state = load_file(tmp_path / "w.safetensors")
    assert state["network.classifier.weight"].dtype == torch.float16
    assert state["means"].dtype == torch.float32
    assert {path.name for path in tmp_path.iterdir()} == {"w.safetensors", "w.json"}


@pytest.fixture
def classifier(weights):
    return load_classifier(weights, 1, CPU).classifier


IMAGES = torch.from_numpy(noise(6, 28, 28, 3))


CPU = torch.device("cpu")


def test_the_distance_is_that_of_the_unchanged_image(classifier):
    _, alone = classifier.predict(IMAGES)
    classifier.views = 8
    torch.testing.assert_close(classifier.predict(IMAGES)[1], alone)


@pytest.mark.parametrize("views", [1, 8])
def test_mean_features_are_those_of_the_views(classifier, views):
    classifier.views = views
    each = [features(classifier.network, view(IMAGES, which)) for which in range(views)]
    torch.testing.assert_close(mean_features(classifier, IMAGES), torch.stack(each).mean(0))
    if views == 8:
        assert (each[0] - each[7]).abs().max() > 1e-3


def test_features_of_views_begin_with_the_unchanged_image_s(classifier):
    found = fine_tuning.view_features(classifier, IMAGES.numpy())
    expected = [features(classifier.network, view(IMAGES, which)) for which in range(8)]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("views", [1, 8])
def test_the_calibration_is_that_of_the_views(weights, tmp_path, views):
    parts = {
        "1": {"temperature": 0.5, "sets": {"0.95": 0.4, "0.99": 0.3}},
        "8": {"temperature": 0.25, "sets": {"0.95": 0.2, "0.99": 0.1}},
    }
    path = changed(weights, tmp_path / "w.safetensors", calibration=parts, farthest=0.7)
    model = load_classifier(path, views, CPU)
    found = {"temperature": model.classifier.temperature, "sets": model.sets}
    assert found == parts[str(views)]
    assert model.farthest == 0.7
