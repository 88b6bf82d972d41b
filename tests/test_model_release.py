"""From a trained run to weights that predict.py takes: model_release.py on generated images."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.spatial.distance import cdist

import model_release
import models
from bloodcells.data import bloodmnist, out_of_distribution, synthetic_cells
from bloodcells.evaluation import uncertainty
from bloodcells.inference.classifier import Classifier, class_means, fuse, save_classifier

SMALL = ("--config", "cnn-best", "--synthetic", "--widths", 4, 8, 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_once):
    folder = tmp_path_factory.mktemp("trained") / "small"
    run_once("model_cnn.py", *SMALL, "--runs", 2, "--epochs", 2, "--output", folder)
    return folder


@pytest.fixture
def release(run, trained, tmp_path, monkeypatch):
    """Runs model_release.py on the small run, with other flags as given."""
    monkeypatch.setattr(model_release, "OUTSIDERS", 20)
    target = ("--weights", tmp_path / "small.safetensors", "--output", tmp_path / "release")
    return lambda *flags: run(
        "model_release.py", "--synthetic", "--run", trained, *target, "--device", "cpu", *flags
    )


def test_another_laboratory_s_images_are_scored(release, run, tmp_path):
    images, labels = synthetic_cells.make()["test"]
    for number in range(24):
        name = bloodmnist.CLASS_NAMES[labels[number]]
        path = tmp_path / "elsewhere" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).resize((70, 70)).save(path)
    (tmp_path / "elsewhere" / name / "text.png").write_text("no picture")
    outcome = release("--elsewhere", tmp_path / "elsewhere")
    assert outcome.code == 0, outcome
    content = json.loads((tmp_path / "release" / "metrics.json").read_text())
    assert "elsewhere" not in content["config"]
    found = content["elsewhere"]
    assert (found["name"], found["images"], found["unusable"]) == ("elsewhere", 24, 1)
    assert sum(found["counts"].values()) == 24
    for views in ("1", "8"):
        part = found["views"][views]
        for scores in (part, part["given_classes"]):
            assert 0 <= scores["balanced_accuracy"]["mean"] <= 1
            assert scores["sets"]["0.95"]["coverage"]["std"] is not None
        assert part["given_classes"]["accuracy"]["mean"] >= part["accuracy"]["mean"]
    flags = ("--weights", tmp_path / "small.safetensors", "--labelled", "--views", 8)
    outcome = run("predict.py", tmp_path / "elsewhere", *flags)
    assert "balanced accuracy" in outcome.err
    assert outcome.code == 1  # the text


def test_release_writes_what_predict_takes(release, run, trained, tmp_path):
    outcome = release()
    assert outcome.code == 0, outcome
    content = json.loads((tmp_path / "release" / "metrics.json").read_text())
    assert content["dataset"]["synthetic"]
    for views in ("1", "8"):
        part = content["views"][views]
        assert part["after"]["nll"]["mean"] <= part["before"]["nll"]["mean"] + 0.05
        assert part["sets"]["0.95"]["coverage"]["mean"] > 0.85
        assert len(part["sets"]["0.95"]["size_by_class"]["mean"]) == 8
    assert set(content["called_unlike"]) == {uncertainty.CELLS, *out_of_distribution.KINDS}
    assert content["float16"]["test"]["largest_difference"] < 0.02
    for name in ("reliability", "risk_coverage", "sets", "unlike"):
        assert (tmp_path / "release" / f"{name}.png").stat().st_size > 10_000

    test = bloodmnist.load(synthetic=True).test
    np.save(tmp_path / "test.npy", test.images)
    np.save(tmp_path / "noise.npy", out_of_distribution.make(20, 28, seed=0)["noise"])
    flags = ("--weights", tmp_path / "small.safetensors", "--format", "json", "--views", "8")
    rows = json.loads(run("predict.py", tmp_path / "test.npy", *flags).out)
    answers = [bloodmnist.CLASS_NAMES.index(row["label"]) for row in rows]
    assert np.mean(answers == test.labels) == content["released"]["accuracy"]["8"]
    rows = json.loads(run("predict.py", tmp_path / "noise.npy", *flags).out)
    unlike = np.mean([row["unlike_training"] for row in rows])
    assert unlike == content["called_unlike"]["noise"]["released"] > 0.5
    card = json.loads((tmp_path / "small.json").read_text())
    assert card["training"]["run"] == trained.name
    assert card["training"]["seed"] == 0


def test_runs_that_cannot_be_released(fails, trained, quick_run, tmp_path):
    def complaint(folder, *flags):
        target = ("--output", tmp_path / "r", "--weights", tmp_path / "w.safetensors")
        return fails("model_release.py", "--run", folder, *target, *flags)

    assert "only CellNet" in complaint(quick_run, "--synthetic")
    assert "no finished experiment" in complaint(tmp_path, "--synthetic")
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    (other / "weights-seed-1.safetensors").write_bytes(b"no weights")
    assert "weights-seed-1.safetensors: not this run's weights" in complaint(other, "--synthetic")
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["dataset"]["counts"]["train"] += 1
    (other / "metrics.json").write_text(json.dumps(metrics))
    assert "trained on data other than" in complaint(other, "--synthetic")
    metrics["runs"][0]["weights"] = None
    (other / "metrics.json").write_text(json.dumps(metrics))
    assert "--save-weights" in complaint(other, "--synthetic")


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


def test_weights_are_stored_in_half_precision(tmp_path):
    classifier, _ = random_classifier()
    save_classifier(tmp_path / "w.safetensors", classifier, {})
    state = load_file(tmp_path / "w.safetensors")
    assert state["network.classifier.weight"].dtype == torch.float16
    assert state["means"].dtype == torch.float32
    assert {path.name for path in tmp_path.iterdir()} == {"w.safetensors", "w.json"}


@pytest.mark.parametrize("size", [28, 64])
def test_images_of_no_cells(size):
    made = out_of_distribution.make(3, size, seed=0)
    again = out_of_distribution.make(3, size, seed=0)
    for kind, images in made.items():
        assert (images.shape, images.dtype) == ((3, size, size, 3), np.uint8), kind
        assert (images == again[kind]).all()
        assert (images[0] != images[1]).any()
