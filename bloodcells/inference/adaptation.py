"""Adaptation of a released network to the images of another laboratory, without labels."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bloodcells.errors import UserError
from bloodcells.inference.classifier import Released, mean_features

FEWEST = 36  # images; fewer say too little about their laboratory
MOST_OF_ONE_CLASS = 0.75  # share; a class's own features would be taken for the laboratory's
DOUBT = 5.0  # images; a class whose probabilities sum to n counts n / (n + DOUBT)


class CannotAdaptError(UserError):
    """Why a model cannot be adapted to some images."""


@dataclass(frozen=True)
class Adaptation:
    """What was estimated from a laboratory's images."""

    images: int
    shares: dict[str, float]  # of the classes among the images, before adaptation
    offsets: dict[str, float]  # added to each class's logit


def adapt(model: Released, images: np.ndarray, batch_size: int) -> tuple[Released, Adaptation]:
    """The model adapted to one laboratory's images, uint8 (N, H, H, 3).

    What the laboratory adds to the features of all images is estimated by class: the features'
    mean there, weighted by the model's probabilities, minus that of the training images. The mean
    of these differences is subtracted from the features, which changes only the bias of the linear
    last layer. Classes with more than a few images count alike, so that a laboratory's class
    frequencies are not taken for its stain. Distances to the training images stay as they were.

    Raises `CannotAdaptError` for fewer than `FEWEST` images, or if most seem to be of one class.
    """
    if len(images) < FEWEST:
        raise CannotAdaptError(
            f"--adapt: at least {FEWEST} usable images of one laboratory are needed, not "
            f"{len(images)}"
        )
    every = np.ones(len(images), bool)
    probabilities, _ = model.predict(images, every, batch_size)
    shares = probabilities.mean(0)
    if shares.max() > MOST_OF_ONE_CLASS:
        raise CannotAdaptError(
            f"--adapt: {shares.max():.0%} of the images seem to be of one class, "
            f"{model.classes[shares.argmax()]}; several classes are needed"
        )
    classifier = copy.deepcopy(model.classifier)
    device = classifier.means.device
    features = mean_features(classifier, torch.from_numpy(images).to(device), batch_size)
    weights = torch.from_numpy(probabilities).float()
    counts = weights.sum(0)
    there = weights.T @ features / counts[:, None]
    at_home = classifier.means.cpu()[model.columns]
    belief = counts / (counts + DOUBT)
    shift = (belief[:, None] * (there - at_home)).sum(0) / belief.sum()
    offset = -(classifier.network.classifier.weight.detach() @ shift.to(device))
    classifier.network.classifier.bias.data += offset
    return replace(model, classifier=classifier), Adaptation(
        images=len(images),
        shares=named(model, shares),
        offsets=named(model, offset.cpu().numpy()[model.columns]),
    )


def named(model: Released, values: np.ndarray | Tensor) -> dict[str, float]:
    """Values (classes,) by the class's name."""
    return {name: float(value) for name, value in zip(model.classes, values, strict=True)}
