"""The optimizers: who steps which weight, how fast, and what Muon's update is."""

import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import models
from bloodcells.cli.recipe import Recipe
from bloodcells.training import optim

MUON = Recipe(epochs=1, batch_size=8, lr=0.01, optimizer="muon", schedule="triangle")


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (16, 16)])
def test_orthogonalised_matrix_has_singular_values_near_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    result = optim.orthogonalise(matrix, steps=6)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert nn.functional.cosine_similarity(result.flatten(), (left @ right).flatten(), 0) > 0.95


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def test_every_weight_has_exactly_one_optimizer():
    model = models.CellNet()
    adamw, muon = optim.make_optimizers(model, MUON)
    filters = {id(w) for g in muon.param_groups for w in g["params"]}
    rest = {id(w) for g in adamw.param_groups for w in g["params"]}
    assert filters | rest == {id(w) for w in model.parameters()}
    assert not filters & rest
    assert id(convolutions(model)[0].weight) in rest  # filters on pixels
    assert len(filters) == 6


def test_triangle_rises_then_falls():
    recipe = Recipe(epochs=1, batch_size=8, lr=1.0, schedule="triangle", warmup=0.25)
    shares = [optim.learning_rate_share(recipe, step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.04)
    assert shares[24] == pytest.approx(1)
    assert shares == sorted(shares[:25]) + sorted(shares[25:], reverse=True)
    assert 0 < shares[-1] < 0.02
    assert optim.learning_rate_share(Recipe(1, 8, 1.0), 50, 100) == 1


def test_steps_fall_at_the_half_and_at_three_quarters():
    recipe = Recipe(epochs=1, batch_size=8, lr=1.0, schedule="steps")
    shares = [optim.learning_rate_share(recipe, step, 100) for step in (0, 49, 50, 74, 75, 99)]
    assert shares == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_schedule_reaches_every_optimizer():
    model = models.CellNet()
    optimizers = optim.make_optimizers(model, MUON)
    schedulers = [
        LambdaLR(optimizer, lambda step: optim.learning_rate_share(MUON, step, 10))
        for optimizer in optimizers
    ]
    first = [g["lr"] for o in optimizers for g in o.param_groups]
    assert first == pytest.approx([0.005, 0.005, 0.025])
    model(torch.zeros(2, 3, 28, 28)).sum().backward()
    for part in (*optimizers, *schedulers):
        part.step()
    second = [g["lr"] for o in optimizers for g in o.param_groups]
    assert second == pytest.approx([0.01, 0.01, 0.05])


def test_muon_descends():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 3, 3, 3))
    target = torch.randn(6, 3, 3, 3)
    muon = optim.Muon([weight], lr=0.05)
    losses = []
    for _ in range(300):
        loss = ((weight - target) ** 2).mean()
        losses.append(loss.item())
        muon.zero_grad()
        loss.backward()
        muon.step()
    assert losses[-1] < losses[0] / 10


def test_muon_leaves_a_frozen_layer_as_it_is():
    model = models.CellNet()
    frozen = convolutions(model)[1].weight.requires_grad_(False)
    before = frozen.clone()
    optimizers = optim.make_optimizers(model, MUON)
    model(torch.randn(4, 3, 28, 28)).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(frozen, before)


def test_the_triangle_ends_at_zero():
    assert optim.learning_rate_share(MUON, 100, 100) == 0
    assert optim.learning_rate_share(MUON, 101, 100) == 0


@pytest.mark.parametrize(
    "wrong", [{"schedule": "cosine"}, {"optimizer": "Muon"}, {"unchanged": "color"}, {"views": 3}]
)
def test_unknown_choices_in_a_recipe_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .*: not of"):
        Recipe(**wrong)


def test_weights_decay_but_biases_and_norms_do_not():
    recipe = Recipe(epochs=1, lr=0.1, optimizer="muon", weight_decay=0.5, schedule="triangle")
    model = models.CellNet(widths=(8, 8, 8))
    nn.init.constant_(model.classifier.bias, 1.0)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    adamw, _ = optim.make_optimizers(model, recipe)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    adamw.step()
    decayed = {"classifier.weight", "stem.0.weight"}
    for name, weight in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5 if name in decayed else 1)
        torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("shape", [(12, 2, 1, 2), (3, 4, 3, 3)])
def test_two_steps_of_muon_by_hand(shape):
    """Nesterov momentum, orthogonalised, longer for more outputs than inputs."""
    torch.manual_seed(0)
    gradients, weight = torch.randn(2, *shape), nn.Parameter(torch.zeros(shape))
    muon, momentum, expected = optim.Muon([weight], lr=0.05), torch.zeros(shape), torch.zeros(shape)
    longer = max(1, shape[0] / math.prod(shape[1:])) ** 0.5
    for gradient in gradients:
        weight.grad = gradient.clone()
        muon.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        ahead = 0.1 * gradient + 0.9 * momentum
        update = longer * optim.orthogonalise(ahead.flatten(1), 3).view(shape)
        expected = expected - 0.05 * update
        torch.testing.assert_close(weight.detach(), expected)
