"""Class activation maps: where in an image a CellNet finds its class, and a check of the maps."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

import models
from bloodcells.data.bloodmnist import Split, normalise


def activation_maps(
    network: models.CellNet, split: Split, rows: np.ndarray, device: torch.device, seed: int
) -> list[dict]:
    """For each row, the map of its class, float (h, w), and the same with shuffled weights.

    A map that shows what was learnt must change with the weights (Adebayo et al., "Sanity Checks
    for Saliency Maps", 2018). `correlation` is Spearman's between the two maps, or None if one is
    constant.
    """
    images = torch.from_numpy(split.images[rows]).to(device)
    labels = torch.from_numpy(split.labels[rows]).to(device)
    learnt, random = (
        class_maps(part, images, labels).cpu().numpy()
        for part in (network, shuffled(network, seed))
    )
    return [
        {
            "index": int(row),
            "map": one,
            "shuffled": other,
            "correlation": rank_correlation(one, other),
        }
        for row, one, other in zip(rows, learnt, random, strict=True)
    ]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's rank correlation of two maps; None if one is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


@torch.inference_mode()
def class_maps(network: models.CellNet, images: Tensor, labels: Tensor) -> Tensor:
    """How much each location of uint8 `images` (N, H, W, 3) supports its label (N,): (N, h, w).

    After Zhou et al., "Learning Deep Features for Discriminative Localization" (2016), adapted to
    global max pooling: in each channel only the location of the maximum counts, multiplied by the
    classifier's weight for that channel. So a map sums to the label's logit without the bias.
    """
    found = []
    hook = network.body.register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        network(normalise(images))
    finally:
        hook.remove()
    last = found[0]
    strongest = last == last.amax((2, 3), keepdim=True)
    shares = strongest / strongest.sum((2, 3), keepdim=True)  # ties share equally
    return torch.einsum("nchw,nc->nhw", last * shares, network.classifier.weight[labels])


def shuffled(network: models.CellNet, seed: int) -> models.CellNet:
    """A copy of the network with the values of each parameter tensor in random order."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(network)
    for weight in other.parameters():
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        weight.data = weight.data.flatten()[order].view_as(weight)
    return other
