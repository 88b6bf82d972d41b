"""The released classifier: fused, distant, stored."""

import errno

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.distance import cdist

import models
from bloodcells.data import bloodmnist
from bloodcells.errors import UserError
from bloodcells.inference.classifier import Classifier, class_means, fuse, save_classifier
from bloodcells.tracking import run_folder


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
