"""Accuracy on images unlike the training images: corrupted ones, and another laboratory's."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bloodcells.data import corruptions
from bloodcells.data.bloodmnist import Split
from bloodcells.evaluation.prediction import predict


def accuracy(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy on uint8 images (N, H, W, 3), with one view."""
    return float((predicted_classes(network, images) == labels).mean())


def predicted_classes(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """The classes, int64 (N,), predicted of uint8 images (N, H, W, 3), with one view."""
    return predict(network, on_device_of(network, images)).argmax(1).numpy()


def on_device_of(network: nn.Module, images: np.ndarray) -> torch.Tensor:
    """The images as a tensor on the network's device."""
    return torch.from_numpy(images).to(next(network.parameters()).device)


def corrupted_accuracy(network: nn.Module, images: Split, seed: int) -> dict[str, float]:
    """Accuracy under each corruption of `corruptions.py`, the mean of its severities."""
    found: dict[str, list[float]] = {}
    for kind, _, changed in corruptions.versions(
        images.images, list(corruptions.CORRUPTIONS), seed
    ):
        if kind is not None:
            found.setdefault(kind, []).append(accuracy(network, changed, images.labels))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean recall of the classes that occur in `labels`."""
    right = probabilities.argmax(1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def elsewhere_accuracy(
    network: nn.Module, images: Split, frequencies: np.ndarray, views: int
) -> dict[str, float]:
    """Balanced accuracy on another laboratory's images, if all classes are equally frequent.

    "all": over all classes; "given": where only those can occur that do. `frequencies` are the
    classes' shares of the training images. The probabilities are not calibrated.
    """
    probabilities = predict(network, on_device_of(network, images.images), views).numpy()
    probabilities = probabilities / frequencies
    present = np.zeros_like(probabilities)
    occur = np.unique(images.labels)
    present[:, occur] = probabilities[:, occur]
    return {
        "all": balanced_accuracy(images.labels, probabilities),
        "given": balanced_accuracy(images.labels, present),
    }
