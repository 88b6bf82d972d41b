"""Train and score a convolutional network.

    python model_cnn.py --overwrite                            # the paper's CNN, five folds
    python model_cnn.py --protocol as-published --overwrite    # as published: leaks test images
    python model_cnn.py --config cnn-best --overwrite          # 5 models, half an hour in bfloat16
    python model_cnn.py --config cnn-distilled --overwrite     # learns from those five models
    python model_cnn.py --epochs 10 --lr 5e-4                  # other settings, in their own folder

Each model is scored after every epoch on its held-out images, if it has any, and once on the
official test split, at the end (as published: only the last fold's model). Writes metrics.json,
history.csv, predictions.npz, config.toml and figures into plots/<preset>/; other settings than the
preset's, and edits of the code, are added to the folder's name. The first command reaches a test
accuracy of 0.887 and takes 65 to 270 seconds on two cores of an AMD EPYC. Ctrl-C stops after the
current batch and prints the command that resumes. docs/experiments.md shows edits of this script.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_cnn

if __name__ == "__main__":
    run_script(parse_cnn, __file__)  # --help ends before torch loads; main parses again

from argparse import Namespace
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

import models
from bloodcells.cli.arguments import data_settings
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import LABELS, Labelled
from bloodcells.data.folds import Fold, make_folds
from bloodcells.errors import UserError
from bloodcells.evaluation.distillation import Teacher
from bloodcells.evaluation.prediction import final_predictions, score
from bloodcells.reporting.results import save_results
from bloodcells.training import distributed
from bloodcells.training.augmentation import Batches
from bloodcells.training.device import autocast, choose_device, choose_precision
from bloodcells.training.interruption import stop_if_asked
from bloodcells.training.meter import EpochMeter
from bloodcells.training.optim import learning_rate_share, make_optimizers
from bloodcells.training.seeds import seed_everything
from bloodcells.training.session import open_session


def main() -> None:
    """Train and score a network on every fold or seed."""
    args = parse_cnn(__file__)  # flags override the preset of .config/
    device = choose_device(args.device, args.threads)
    args.precision = choose_precision(args.precision, device)
    recipe = Recipe.of(args)
    dataset = bloodmnist.load(**data_settings(args))
    pool, folds = make_folds(args.protocol, dataset, args.folds, args.runs, args.seed)
    network = build(args)  # never trained: tells the session the architecture
    teacher = Teacher(args, dataset)  # --teacher: distillation; off by default

    with open_session(args, dataset, folds, network, device) as session:
        images, test = pool.to(device), bloodmnist.to_device(dataset.test, device)
        for fold in session.unfinished():  # one model per fold, or per seed if there are no folds
            train = teacher.soften(images.choose(fold.train))
            held_out = images.choose(fold.held_out)
            model, batches, optimizers, schedulers = set_up(args, recipe, fold, train)
            epochs_done = session.restore(fold, model, batches, optimizers, schedulers)
            for epoch in range(epochs_done + 1, recipe.epochs + 1):
                row = train_epoch(model, batches, optimizers, schedulers, recipe)
                row |= score(model, held_out, recipe)
                session.save(epoch, row)  # raises if the held-out loss is NaN or infinite
            predictions = final_predictions(model, held_out, test if fold.scored else None, recipe)
            session.finish(fold, model, predictions)
        if session.complete():  # all models are trained, and this process writes the results
            save_results(args, dataset, network, session)


def build(args: Namespace) -> nn.Module:
    """A new network from models.py. Raises `UserError` for an option that it does not have."""
    classes = len(LABELS[args.labels])
    try:
        return models.build(args.model, args.size, args.widths, args.dropout, classes)
    except models.OptionError as error:
        raise UserError(f"--{error}") from error


def set_up(
    args: Namespace, recipe: Recipe, fold: Fold, train: Labelled
) -> tuple[nn.Module, Batches, list[Optimizer], list[LRScheduler]]:
    """A new model for a fold, with its batches, optimizers (two for Muon) and their schedulers."""
    generator = seed_everything(fold)
    model = build(args).to(  # type: ignore[call-overload]
        train.labels.device, memory_format=torch.channels_last
    )
    batches = Batches(*train, recipe, generator)
    optimizers = make_optimizers(model, recipe)
    steps = recipe.epochs * len(batches)
    schedulers: list[LRScheduler] = [
        LambdaLR(optimizer, lambda step: learning_rate_share(recipe, step, steps))
        for optimizer in optimizers
    ]
    return model, batches, optimizers, schedulers


def train_epoch(
    model: nn.Module,
    batches: Batches,
    optimizers: Sequence[Optimizer],
    schedulers: Sequence[LRScheduler],
    recipe: Recipe,
) -> dict[str, float]:
    """Train for one epoch; returns its row of history.csv. Raises `DivergedError`."""
    model.train()
    meter = EpochMeter()
    for images, labels in batches:  # (B, 3, H, W), normalised; (B,), or with --teacher (B, classes)
        stop_if_asked()  # by Ctrl-C
        with autocast(images.device, recipe.precision):
            logits = model(images).float()  # (B, classes)
        losses = nn.functional.cross_entropy(
            logits, labels, label_smoothing=recipe.label_smoothing, reduction="none"
        )
        loss = losses.mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(model, len(labels), len(batches.rows))  # under torchrun
        meter.add(loss, logits, labels, optimizers)
        batches.record(losses.detach())  # --focus chooses the next images by them
        for optimizer in optimizers:
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return meter.row()


if __name__ == "__main__":
    run_script(main)
