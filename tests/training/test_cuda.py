"""The training step on CUDA tensors without a GPU: fake ones, which have shapes but no values.

A CPU tensor among CUDA tensors raises here, and so does reading a value, for which a GPU would have
to finish all work before. The backward pass needs a GPU; it is replaced by zero gradients.
"""

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import model_baseline
import model_cnn
import models
from bloodcells.cli.recipe import Recipe
from bloodcells.data.bloodmnist import Images, Labelled
from bloodcells.data.folds import Fold
from bloodcells.evaluation.prediction import predict
from bloodcells.inference.classifier import Classifier
from bloodcells.training import device, domain_randomisation
from bloodcells.training.augmentation import Batches
from bloodcells.training.meter import EpochMeter
from bloodcells.training.optim import make_optimizers

FOLD = Fold(seed=0, fold=None, train=np.arange(0), held_out=None, scored=False)
PAPER = Recipe(batch_size=16)
BEST = Recipe(
    batch_size=16, epochs=3, optimizer="muon", weight_decay=0.05, schedule="triangle",
    label_smoothing=0.1, dihedral=True, shift=2, cutout=4, focus=0.3,
)  # fmt: skip
ROBUST = replace(BEST, domain_randomisation=0.5)


@pytest.fixture
def images(monkeypatch):
    """32 fake images and labels on a GPU that is not there; tensors are fake during the test."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    # reads what it has summed up, once an epoch
    monkeypatch.setattr(EpochMeter, "row", lambda meter: {"loss": meter.loss_sum})
    # what is drawn for the whole batch is drawn on the CPU, whose values are fake too
    monkeypatch.setattr(domain_randomisation, "draw", lambda: 0.7)
    with FakeTensorMode():
        pixels = torch.zeros(32, 28, 28, 3, dtype=torch.uint8, device="cuda")
        yield Labelled(Images([pixels]), torch.zeros(32, dtype=torch.int64, device="cuda"))


def on_the_gpu(make, monkeypatch):
    """The model that `make` builds, on the GPU; the backward pass gives it zero gradients."""
    with torch.device("cuda"):
        model = make()
    model.to = lambda *_, **__: model  # fake weights cannot be exchanged

    def backward(loss):
        assert loss.device.type == "cuda"
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    return model


@pytest.mark.parametrize(
    ("name", "recipe", "precision"),
    [
        ("ConvNet", PAPER, "float32"),
        ("CellNet", BEST, "bfloat16"),
        ("RobustNet", ROBUST, "bfloat16"),
        ("ResNet18", PAPER, "float32"),
    ],
)
def test_an_epoch_stays_on_the_gpu_and_never_waits_for_it(
    monkeypatch, images, name, recipe, precision
):
    model = on_the_gpu(lambda: models.build(name, 28), monkeypatch)
    monkeypatch.setattr(model_cnn, "build", lambda args: model)
    recipe = replace(recipe, precision=precision)
    training = model_cnn.set_up(Namespace(), recipe, FOLD, images)
    for _ in range(1 + bool(recipe.focus)):  # it sets in with the second
        row = model_cnn.train_epoch(*training, recipe)
    assert row["loss"].device.type == "cuda"
    assert predict(model, images.images, 8, precision).shape == (32, 8)


def test_an_epoch_of_the_baseline(monkeypatch, images):
    model = on_the_gpu(lambda: models.build("Baseline", 28), monkeypatch)
    batches = Batches(*images, PAPER, torch.Generator())
    row = model_baseline.train_epoch(model, batches, make_optimizers(model, PAPER)[0], PAPER)
    assert row["loss"].device.type == "cuda"


def test_the_released_classifier(monkeypatch, images):
    model = on_the_gpu(lambda: models.RobustNet(), monkeypatch)
    classifier = Classifier(model.eval(), torch.zeros(8, 192, device="cuda"))
    classifier.views = 8
    probabilities, distances = classifier.predict(images.images[:20], batch_size=16)
    assert probabilities.shape == (20, 8)
    assert distances.shape == (20,)


def test_a_cpu_tensor_or_a_value_read_would_be_found(images):
    with pytest.raises(RuntimeError, match="device"):
        images.labels + torch.zeros(32)
    with pytest.raises(DataDependentOutputException):
        float(images.labels.sum())


def test_precision_follows_the_gpu(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native
        )
        expected = "bfloat16" if native else "float32"
        assert device.choose_precision("auto", torch.device("cuda")) == expected
