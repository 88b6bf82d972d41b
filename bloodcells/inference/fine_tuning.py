"""A released network's last layer, fitted to labelled images of one laboratory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bloodcells.inference.cards import VIEWS, read_card
from bloodcells.inference.classifier import Classifier, Released, features, md5_of
from bloodcells.tracking.files import read_entry
from bloodcells.training.augmentation import view

PULL = 0.1  # towards the released layer; chosen on slides of another laboratory
MOST_STEPS = 100
LAYER = "network.classifier"  # in the file of weights
ENTRY = "fine_tuned"  # in the card


def view_features(classifier: Classifier, images: np.ndarray, batch_size: int = 128) -> Tensor:
    """The last layer's input for the eight views of uint8 images (N, H, H, 3).

    float32 (8, N, d) on the CPU, the unchanged images' first.
    """
    on_device = torch.from_numpy(images).to(classifier.means.device)
    views = [view(on_device, which) for which in range(max(VIEWS))]
    return torch.stack([features(classifier.network, one, batch_size) for one in views])


def released_layer(model: Released) -> nn.Linear:
    """The released last layer, without temperature, for equally frequent classes: on the CPU."""
    layer = model.classifier.network.classifier
    copied = nn.Linear(layer.in_features, layer.out_features)
    log_frequencies = torch.from_numpy(np.log(model.frequencies)).float()
    copied.weight.data = layer.weight.detach().cpu().clone()
    copied.bias.data = layer.bias.detach().cpu() - log_frequencies
    return copied


def fit_last_layer(model: Released, given: Tensor, labels: np.ndarray) -> nn.Linear:
    """The last layer that minimises the log loss of a laboratory's images, on the CPU.

    `given` are their `view_features`, `labels` int (N,) indices of `model.classes`. The labelled
    classes count alike. The layer is pulled towards the released one by a squared distance, as by
    a normal prior, so that a few images change little. A class without labelled images takes part
    as one image would that counts as much as all images of another class: with the mean features
    of its training images, moved by what the labelled classes' means differ there from those at
    home. Without that, it would never be named again.
    """
    means, classes = model.classifier.means.cpu(), len(model.classes)
    counts = np.bincount(labels, minlength=classes)
    present, absent = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    there = given.mean(0)
    moved = [there[torch.from_numpy(labels == c)].mean(0) - means[c] for c in present]
    inputs = torch.cat([given.flatten(0, 1), means[absent] + torch.stack(moved).mean(0)])
    targets = torch.from_numpy(np.concatenate([np.tile(labels, len(given)), absent]))
    alike = len(labels) / len(present)  # what each class counts
    by_image = np.tile(alike / counts[labels], len(given)) / len(given)
    weights = torch.from_numpy(np.concatenate([by_image, np.full(len(absent), alike)])).float()

    layer = released_layer(model)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    squares = [float(inputs.square().sum(1).mean()), 1.0]  # of what weight and bias multiply
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=MOST_STEPS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses: Tensor = cross_entropy(layer(inputs), targets, reduction="none")
        loss = (weights * losses).sum()
        for parameter, old, square in zip(layer.parameters(), before, squares, strict=True):
            loss = loss + PULL * square * (parameter - old).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer.requires_grad_(False)


@torch.inference_mode()
def probabilities(layer: nn.Linear, given: Tensor) -> np.ndarray:
    """The mean of the views' probabilities, float32 (N, classes), before any temperature."""
    return layer(given).softmax(-1).mean(0).numpy()


def fine_tuned(weights: Path, layer: nn.Linear, entries: dict) -> tuple[bytes, dict]:
    """The content of the files of released weights with another last layer: tensors, and card.

    Its classes are equally frequent; `entries` replace others of the card.
    """
    card = card_of(weights)
    tensors = safetensors.torch.load(weights.read_bytes())
    tensors[f"{LAYER}.weight"] = layer.weight.half()
    tensors[f"{LAYER}.bias"] = layer.bias.half()
    content = safetensors.torch.save(tensors)
    classes = len(card["classes"])
    return content, {
        **card,
        "frequencies": [1 / classes] * classes,
        **entries,
        "md5": md5_of(content),
    }


def card_of(weights: Path) -> dict:
    """The card beside released weights, which `load_classifier` has read."""
    return read_card(weights.with_suffix(".json").read_text(encoding="utf-8"))


def is_fine_tuned(weights: Path) -> bool:
    """Whether weights were fitted to a laboratory's images, by their card."""
    return ENTRY in card_of(weights)


def holds_for(weights: Path) -> str | None:
    """Where the calibration of fitted weights holds, in words; None for released weights."""
    if not is_fine_tuned(weights):
        return None
    slides_held_out = read_entry(weights.with_suffix(".json"), ENTRY, "config", "slide")
    return f"the {'laboratory' if slides_held_out else 'slides'} fitted to"
