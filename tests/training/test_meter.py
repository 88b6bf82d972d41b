"""What an epoch comes to, and which batch is named when the loss is lost."""

import pytest
import torch
from torch import nn

from bloodcells.training.meter import DivergedError, EpochMeter, refuse_divergence


@pytest.fixture
def optimizer():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)


def add(meter, loss, labels, predicted, optimizer):
    logits = nn.functional.one_hot(torch.tensor(predicted), 8).float()
    meter.add(torch.tensor(loss), logits, torch.tensor(labels), [optimizer])


def test_means_are_over_images_not_batches(optimizer):
    meter = EpochMeter()
    add(meter, 1.0, [0, 1, 2], [0, 1, 1], optimizer)
    optimizer.param_groups[0]["lr"] = 0.25
    add(meter, 3.0, [5], [0], optimizer)
    row = meter.row()
    assert row.pop("train_seconds") > 0
    assert row == pytest.approx({"train_loss": 1.5, "train_accuracy": 0.5, "lr": 0.25})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_first_batch_that_went_wrong_is_named_with_its_rate(optimizer, bad):
    meter = EpochMeter()
    for rate, loss in ((0.1, 1.0), (0.2, bad), (0.3, bad)):
        optimizer.param_groups[0]["lr"] = rate
        add(meter, loss, [0], [0], optimizer)
    with pytest.raises(DivergedError, match=f"batch 2 of 3, at a learning rate of 0.2, .* {bad}"):
        meter.row()


def test_held_out_loss_that_went_wrong_is_named_with_the_last_rate():
    refuse_divergence(1, {"train_loss": 1.0, "lr": 0.1})  # nothing held out
    refuse_divergence(1, {"val_loss": 1.0, "lr": 0.1})
    with pytest.raises(DivergedError, match=r"after epoch 7, .* rate of 0.1, .* images is inf"):
        refuse_divergence(7, {"val_loss": float("inf"), "lr": 0.1})
    # of an edited step, whose rows have no rate
    with pytest.raises(DivergedError, match="after epoch 7, the loss on held-out images is nan;"):
        refuse_divergence(7, {"val_loss": float("nan")})
