"""What no experiment can be made of: refused before training, not after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bloodcells.data.bloodmnist import Dataset
from bloodcells.errors import UserError
from bloodcells.training import distributed
from bloodcells.training.domain_randomisation import changed_count

ENOUGH = 30  # images outside the largest class: no resample of 1,000 lacks them all


def refuse_misfit(network: nn.Module, dataset: Dataset) -> None:
    """Raise `UserError` if the network does not give one number for each class of the data set."""
    images = torch.zeros(2, 3, dataset.size, dataset.size, device=next(network.parameters()).device)
    training = network.training
    with torch.inference_mode():
        output = network.eval()(images.to(memory_format=torch.channels_last))
    network.train(training)
    is_tensor, wanted = isinstance(output, torch.Tensor), (2, len(dataset.classes))
    found = f"has the shape {tuple(output.shape)}" if is_tensor else f"is a {type(output).__name__}"
    if not is_tensor or tuple(output.shape) != wanted:
        raise UserError(
            f"{type(network).__name__}: its output for two images {found}, not a tensor of shape "
            f"{wanted}: one number for each class of {dataset.name}"
        )


def refuse_idle_randomisation(share: float, focus: float, batch_size: int) -> None:
    """Raise `UserError` if domain randomisation would change no image of a batch.

    Also if it would change all of them: `focus` cannot tell which of these are hard. Of each batch,
    torchrun's processes have a part.
    """
    processes = distributed.size()
    part = batch_size // processes or batch_size  # with fewer images, each has the whole batch
    changed = changed_count(share, part)
    flag = f"--domain-randomisation {share:g}: of {part} image{'s' * (part > 1)} at a time"
    if share and not changed:
        fewer = ", or start fewer processes" if processes > 1 else ""
        raise UserError(f"{flag} it would change none; raise it, or --batch-size{fewer}")
    if focus and changed == part:
        raise UserError(
            f"{flag} it would change all, so that --focus could not tell the hard ones; lower it, "
            "or raise --batch-size"
        )


def refuse_few_test_images(dataset: Dataset) -> None:
    """Raise `UserError` if the test images are too few to score, before they are to be scored.

    A resample that has images of one class only has no AUC, and so the AUC no interval.
    """
    counts, labels = dataset.test.class_counts(), dataset.test.labels
    others = counts.sum() - counts.max()
    if others >= ENOUGH:
        return
    even = np.full(len(labels), 1 / len(labels))
    draws = np.random.default_rng(0).multinomial(len(labels), even, 1000)  # as in `metrics.py`
    present = draws @ np.eye(len(counts))[labels] > 0  # (resamples, classes)
    if (present.sum(1) < 2).any():
        raise UserError(
            f"{dataset.name}: of the test images, only {others} are not of the class "
            f"{dataset.classes[counts.argmax()]!r}, too few for an interval of the AUC: add some"
        )
