"""What no experiment can be made of: refused before training, not after it."""

from __future__ import annotations

import torch
from torch import nn

from bloodcells.data.bloodmnist import Dataset
from bloodcells.errors import UserError

FEWEST_OTHERS = 14  # with fewer, one of 1,000 resamples may be of one class, and has no AUC


def refuse_misfit(network: nn.Module, dataset: Dataset) -> None:
    """Raise `UserError` if the network does not give one number for each class of the data set."""
    images = torch.zeros(2, 3, dataset.size, dataset.size, device=next(network.parameters()).device)
    training = network.training
    with torch.inference_mode():
        found = tuple(network.eval()(images).shape)
    network.train(training)
    if found != (2, len(dataset.classes)):
        raise UserError(
            f"{type(network).__name__}: its output for two images has the shape {found}, not "
            f"{(2, len(dataset.classes))}: one number for each class of {dataset.name}"
        )


def refuse_few_test_images(dataset: Dataset) -> None:
    """Raise `UserError` if the test images are too few to score, before they are to be scored."""
    counts = dataset.test.class_counts()
    if (others := counts.sum() - counts.max()) < FEWEST_OTHERS:
        raise UserError(
            f"{dataset.name}: of the test images, only {others} are not of the class "
            f"{dataset.classes[counts.argmax()]!r}, too few for an interval of the AUC; "
            f"at least {FEWEST_OTHERS} are needed"
        )
