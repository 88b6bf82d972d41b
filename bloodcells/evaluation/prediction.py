"""Predictions of a model, and its loss and accuracy on held-out images."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bloodcells.cli.recipe import Recipe
from bloodcells.data.bloodmnist import Images, Labelled, normalise
from bloodcells.training import distributed
from bloodcells.training.augmentation import view
from bloodcells.training.device import autocast


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: Tensor | Images,
    views: int = 1,
    precision: str = "float32",
    batch_size: int = 64,
) -> Tensor:
    """Class probabilities, float32 (N, classes) on the CPU, of uint8 images (N, H, W, 3).

    With `views` above 1, test-time augmentation: the mean over the first `views` of the rotations
    and reflections. The model predicts in evaluation mode, and is in its former mode afterwards.
    """
    training = model.training
    model.eval()
    total: Tensor | int = 0
    with autocast(images.device, precision):
        for which in range(views):
            starts = range(0, len(images), batch_size)
            parts = (view(images[start : start + batch_size], which) for start in starts)
            logits = torch.cat([model(normalise(part)).float() for part in parts])
            total = total + logits.softmax(1).cpu()
    model.train(training)
    return cast(Tensor, total / views)


def score(model: nn.Module, held_out: Labelled | None, recipe: Recipe) -> dict[str, float]:
    """`val_loss` and `val_accuracy` with one view: the held-out columns of an epoch's row.

    Empty if nothing is held out.
    """
    if held_out is None:
        return {}
    probabilities = predict(model, held_out.images, precision=recipe.precision)
    labels = held_out.labels.cpu()
    # batch-norm statistics differ between processes: all take the first process's scores
    loss, accuracy = distributed.from_first(lambda: loss_and_accuracy(probabilities, labels))
    return {"val_loss": loss, "val_accuracy": accuracy}


def loss_and_accuracy(probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of probabilities (N, classes) against labels (N,)."""
    log = probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()
    loss = nn.functional.nll_loss(log, labels)
    return float(loss), float((probabilities.argmax(1) == labels).float().mean())


def final_predictions(
    model: nn.Module, held_out: Labelled | None, test: Labelled | None, recipe: Recipe
) -> dict[str, Tensor]:
    """A trained model's probabilities, (N, classes), and the labels of its held-out images.

    Nothing else predicts on the test split during training.
    """
    views, precision, predictions = recipe.views, recipe.precision, {}
    if held_out is not None:
        predictions["val_labels"] = held_out.labels
        predictions["val_probabilities"] = predict(model, held_out.images, views, precision)
    if test is not None:
        predictions["test_probabilities"] = predict(model, test.images, views, precision)
        if views > 1:
            predictions["test_one_view"] = predict(model, test.images, 1, precision)
    return predictions
