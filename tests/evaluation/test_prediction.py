"""Predictions: over views, in lower precision, and the loss of certain mistakes."""

import numpy as np
import pytest
import torch

import models
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.evaluation.prediction import loss_and_accuracy, predict, score
from bloodcells.training.augmentation import view


@pytest.fixture(scope="module")
def cells():
    return bloodmnist.load(synthetic=True)


def test_prediction_over_views_is_the_mean_of_each(cells):
    torch.manual_seed(0)
    model = models.CellNet(widths=(8, 16, 16)).eval()
    images = torch.from_numpy(cells.val.images[:16])
    apart = [predict(model, view(images, which)) for which in range(8)]
    together = predict(model, images, views=8)
    torch.testing.assert_close(together, torch.stack(apart).mean(0))
    torch.testing.assert_close(together.sum(1), torch.ones(len(images)))
    assert (apart[0] - apart[5]).abs().max() > 1e-3


def test_bfloat16_predicts_much_the_same(cells):
    torch.manual_seed(0)
    model = models.CellNet()
    images = torch.from_numpy(cells.val.images[:16])
    exact = predict(model, images)
    rough = predict(model, images, precision="bfloat16")
    torch.testing.assert_close(rough, exact, atol=0.03, rtol=0.1)
    assert (rough != exact).any()


def test_score_is_of_the_predictions(cells):
    torch.manual_seed(0)
    model = models.Baseline()
    held_out = bloodmnist.to_device(cells.val, torch.device("cpu"))
    found = score(model, held_out, Recipe())
    right = predict(model, held_out.images).argmax(1) == held_out.labels
    assert found["val_accuracy"] == pytest.approx(right.float().mean().item())
    assert score(model, None, Recipe()) == {}


def test_loss_and_accuracy_by_hand():
    probabilities = torch.tensor([[0.8, 0.2], [0.7, 0.3]])
    loss, accuracy = loss_and_accuracy(probabilities, torch.tensor([0, 1]))
    assert loss == pytest.approx(-(np.log(0.8) + np.log(0.3)) / 2)
    assert accuracy == 0.5
    loss, _ = loss_and_accuracy(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert loss == pytest.approx(87.3, abs=0.1)  # a certain mistake: finite


def test_a_model_in_training_goes_on_training(cells):
    model = models.ConvNet().train()
    predict(model, torch.from_numpy(cells.val.images))
    assert all(module.training for module in model.modules())
    model.eval()
    predict(model, torch.from_numpy(cells.val.images))
    assert not model.training


def test_images_that_are_normalised_already_are_refused():
    with pytest.raises(TypeError, match="only uint8 ones are normalised"):
        predict(models.Baseline(), torch.zeros(4, 28, 28, 3))


def test_a_precision_that_autocast_would_ignore_is_refused(cells):
    with pytest.raises(ValueError, match="no precision 'auto'"):
        predict(models.Baseline(), torch.from_numpy(cells.val.images), precision="auto")
