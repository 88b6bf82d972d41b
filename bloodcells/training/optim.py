"""The optimizers of a recipe, and the learning-rate schedule that they follow."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError


def make_optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One Adam for all weights; with --optimizer muon two: AdamW, and Muon for the filters.

    Raises `UserError` for a network without filters for Muon.
    """
    weights = list(model.parameters())
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(weights, lr=recipe.lr, fused=True)]
    # the first layer's filters stay with AdamW: their few inputs are colours, not features
    filters = {id(w): w for w in weights if w.ndim == 4 and w.shape[1] > 4}
    rest = [w for w in weights if id(w) not in filters]
    groups = [
        {"params": [w for w in rest if w.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [w for w in rest if w.ndim <= 1], "weight_decay": 0.0},
    ]
    if not filters:
        raise UserError(f"--optimizer muon: {type(model).__name__} has no filters for it; use adam")
    adamw = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), fused=True)
    return [adamw, Muon(filters.values(), lr=recipe.filter_lr)]


def learning_rate_share(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate at a step, 0..steps-1, as a share of the recipe's."""
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "steps":
        return 0.1 ** ((step >= steps / 2) + (step >= 3 * steps / 4))
    # triangle: rises to 1 over the first `peak` steps, then falls to almost 0
    peak = max(1.0, recipe.warmup * steps)
    return max(0.0, min((step + 1) / peak, (steps - step) / (steps - peak + 1)))


class Muon(torch.optim.Optimizer):
    """Muon of Keller Jordan et al. (2024), kellerjordan.github.io/posts/muon.

    Each filter bank, (out, in, height, width), is treated as a matrix with one row per output
    channel. The update is its Nesterov momentum, moved towards the nearest matrix with orthonormal
    rows or columns. It is meant for filters followed by a normalisation, so that their norm does
    not matter. (`torch.optim.Muon` accepts only matrices.)
    """

    def __init__(self, filters: Iterable[Tensor], lr: float, momentum: float = 0.9, steps: int = 3):
        super().__init__(filters, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Update every filter bank once."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:  # of a frozen layer
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                nesterov = weight.grad.lerp(momentum, group["momentum"]).flatten(1)
                update = orthogonalise(nesterov, group["steps"])
                # larger for more outputs than inputs, as in the Muon post
                update = update * max(1, update.shape[0] / update.shape[1]) ** 0.5
                weight.sub_(update.view_as(weight), alpha=group["lr"])


def orthogonalise(matrix: Tensor, steps: int) -> Tensor:
    """A float matrix (rows, columns) with its singular values brought near one.

    Newton-Schulz iterations with the coefficients of the Muon post, which trade accuracy for speed.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if tall else wide
