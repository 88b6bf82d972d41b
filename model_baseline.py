"""Train and score the paper's baseline, one linear layer on the pixels, by cross-validation.

    python model_baseline.py --overwrite                           # honest protocol
    python model_baseline.py --protocol as-published --overwrite   # as published: leaks test images

Each fold's model is scored on its held-out fold after every epoch, and on the official test split
once, at the end (as published: only the last fold's model). Writes metrics.json, history.csv,
predictions.npz, config.toml and figures into plots/baseline/ or plots/baseline-as-published/. The
first command reaches a test accuracy of 0.761 and takes 10 to 35 seconds on two cores of an AMD
EPYC.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_baseline

if __name__ == "__main__":
    run_script(parse_baseline, __file__)  # --help ends before torch loads; main parses again

import torch
from torch import nn
from torch.optim import Adam

from bloodcells.cli.arguments import data_settings
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.folds import make_folds
from bloodcells.evaluation.prediction import final_predictions, score
from bloodcells.reporting.results import save_results
from bloodcells.training import distributed
from bloodcells.training.augmentation import Batches
from bloodcells.training.device import autocast, choose_device, choose_precision
from bloodcells.training.interruption import stop_if_asked
from bloodcells.training.meter import EpochMeter
from bloodcells.training.seeds import seed_everything
from bloodcells.training.session import open_session
from models import Baseline


def main() -> None:
    """Train and score the baseline on every fold."""
    args = parse_baseline(__file__)  # flags override the preset of .config/
    device = choose_device(args.device, args.threads)
    args.precision = choose_precision(args.precision, device)
    recipe = Recipe.of(args)
    dataset = bloodmnist.load(**data_settings(args))
    pool, folds = make_folds(args.protocol, dataset, args.folds, args.runs, args.seed)
    shape = {"num_classes": len(dataset.classes), "image_size": args.size}
    network = Baseline(**shape)  # never trained: tells the session the architecture

    with open_session(args, dataset, folds, network, device) as session:
        images, test = pool.to(device), bloodmnist.to_device(dataset.test, device)
        for fold in session.unfinished():  # one model per fold, or per seed if there are no folds
            train, held_out = images.choose(fold.train), images.choose(fold.held_out)
            generator = seed_everything(fold)
            model = Baseline(**shape).to(device)
            batches = Batches(train.images, train.labels, recipe, generator)
            optimizer = Adam(model.parameters(), lr=recipe.lr, fused=True)
            epochs_done = session.restore(fold, model, batches, [optimizer])
            for epoch in range(epochs_done + 1, recipe.epochs + 1):
                row = train_epoch(model, batches, optimizer, recipe)
                row |= score(model, held_out, recipe)
                session.save(epoch, row)  # raises if the held-out loss is NaN or infinite
            predictions = final_predictions(model, held_out, test if fold.scored else None, recipe)
            session.finish(fold, model, predictions)
        if session.complete():  # all models are trained, and this process writes the results
            save_results(args, dataset, network, session)


def train_epoch(
    model: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer, recipe: Recipe
) -> dict[str, float]:
    """Train for one epoch; returns its row of history.csv. Raises `DivergedError`."""
    model.train()
    meter = EpochMeter()
    for images, labels in batches:  # float32 (B, 3, H, W), normalised; int64 (B,)
        stop_if_asked()  # by Ctrl-C
        with autocast(images.device, recipe.precision):
            logits = model(images).float()  # (B, classes)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(model, len(labels), len(batches.rows))  # under torchrun
        meter.add(loss, logits, labels, [optimizer])
        optimizer.step()
    return meter.row()


if __name__ == "__main__":
    run_script(main)
