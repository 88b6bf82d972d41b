"""Examine the released network: its worst errors, labels that look wrong, activation maps.

    python explain.py --overwrite    # writes plots/explain/; trains five models, ten minutes
    python explain.py --folds 3      # in its own folder

The errors are on the test split; each is shown with the training images nearest to it in the
network's feature space. Labels are suspect by confident learning on held-out predictions
(cleanlab); those of the test split are listed for readers; no choice depends on them. The maps are
illustrations; a check shows how much they change when the network's weights are shuffled. Writes
metrics.json, suspect_labels.csv and three figures.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.studies import parse_explain

if __name__ == "__main__":
    run_script(parse_explain, __file__)  # --help ends before torch loads; main parses again

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from cleanlab.filter import find_label_issues
from torch.nn.functional import normalize

from bloodcells.cli.arguments import data_settings, settings_of, warning
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Dataset, Pool, Split
from bloodcells.data.folds import Fold, make_folds
from bloodcells.errors import UserError
from bloodcells.evaluation import calibration
from bloodcells.evaluation.class_activation import activation_maps
from bloodcells.evaluation.prediction import final_predictions, score
from bloodcells.inference.classifier import Classifier, features, load_classifier, md5_of
from bloodcells.reporting.figures import explanations as figures
from bloodcells.tracking import run_folder
from bloodcells.training.device import choose_device, choose_precision
from bloodcells.training.record import Run
from bloodcells.training.session import open_session
from model_cnn import build, set_up, train_epoch

SHOWN, NEIGHBOURS = 8, 5  # errors, and nearest training images of each


def main() -> None:
    """Check every label against a held-out prediction, then examine the released network."""
    args = parse_explain(__file__)
    device = choose_device(args.device, args.threads)
    args.precision = choose_precision(args.precision, device)
    recipe = Recipe.of(args)
    path = run_folder.find(args.released)
    # on the processor until it is needed: under torchrun, by the first process alone
    released = load_classifier(path, 1, torch.device("cpu"), flag="--released")
    md5 = md5_of(path.read_bytes())
    if released.size != args.size:
        raise UserError(f"--size {args.size}: the weights {path} are for {released.size} px")
    if tuple(released.classes) != bloodmnist.CLASS_NAMES:
        raise UserError(f"--released {path}: its classes are not the data set's eight")
    dataset = bloodmnist.load(**data_settings(args))
    pool, folds = make_folds(args.protocol, dataset, args.folds, args.runs, args.seed)
    folds = [replace(fold, scored=False) for fold in folds]  # these models do not read test

    with open_session(args, dataset, folds, build(args), device) as session:
        images = pool.to(device)
        for fold in session.unfinished():
            train, held_out = images.choose(fold.train), images.choose(fold.held_out)
            training = set_up(args, recipe, fold, train)
            model = training[0]
            epochs_done = session.restore(fold, *training)
            for epoch in range(epochs_done + 1, recipe.epochs + 1):
                row = train_epoch(*training, recipe)
                row |= score(model, held_out, recipe)
                session.save(epoch, row)
            session.finish(fold, model, final_predictions(model, held_out, None, recipe))
        if session.complete():
            probabilities = held_out_probabilities(pool, folds, session.runs)
            # as the released network's are, with which those of test are compared
            temperature = calibration.fit_temperature(pool.labels, probabilities)
            probabilities = calibration.apply_temperature(probabilities, temperature)
            suspects = suspect_labels({"train": dataset.train, "val": dataset.val}, probabilities)
            suspects["temperature"] = temperature
            classifier, record = released.classifier.to(device), session.environment
            save(args, dataset, classifier, md5, suspects, record, device)


def save(
    args: Namespace,
    dataset: Dataset,
    classifier: Classifier,
    md5: str,
    suspects: dict,
    environment: dict,
    device: torch.device,
) -> None:
    """Examine the released network, and write the results to `args.output`."""
    test = torch.from_numpy(dataset.test.images).to(device)
    probabilities = classifier.predict(test)[0].numpy()
    of_test = suspect_labels({"test": dataset.test}, probabilities)
    wrong = errors(classifier, dataset, probabilities, device)
    total = of_test["contradicted"]
    rows = one_a_class(dataset.test)
    maps = activation_maps(classifier.network, dataset.test, rows, device, args.seed)
    content = {
        "dataset": dataset.describe(),
        "config": settings_of(args),
        "code": args.code.describe(),
        "environment": environment,
        "released_md5": md5,
        "errors": {"split": "test", "total": total, "rows": wrong},
        "suspect_labels": {"split": "train and val, held out", **suspects},
        "suspect_labels_of_test": {"split": "test, listed only", **of_test},
        "activation_maps": {"split": "test", "rows": [row["index"] for row in maps],
                            "correlation_with_shuffled_weights": [r["correlation"] for r in maps]},
    }  # fmt: skip

    def fill(folder: Path) -> None:
        def figure(name: str) -> Path:
            return folder / f"{name}.{args.figure_format}"

        mark = warning(args)
        figures.errors(figure("errors"), wrong, total, dataset, mark)
        figures.suspects(figure("suspect_labels"), suspects["rows"], dataset, mark)
        figures.maps(figure("activation_maps"), maps, dataset.test, mark)
        columns = ["split", "index", "label", "predicted", "probability_of_label"]
        rows = (*suspects["rows"], *of_test["rows"])
        lines = [[row[column] for column in columns] for row in rows]
        run_folder.write_csv(folder / "suspect_labels.csv", [columns, *lines])
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")
    counts = (f"{len(found['rows'])} of {found['contradicted']}" for found in (suspects, of_test))
    print(
        "suspect labels among those contradicted: {} in train + validation, {} in test".format(
            *counts
        )
    )
    print(f"wrote {args.output}")


def errors(
    classifier: Classifier, dataset: Dataset, probabilities: np.ndarray, device: torch.device
) -> list[dict]:
    """The most confident errors on test, with the training images nearest to each."""
    train, test = (torch.from_numpy(part.images) for part in (dataset.train, dataset.test))
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != dataset.test.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    of_worst, of_train = (
        normalize(features(classifier.network, images.to(device)), dim=1)
        for images in (test[worst], train)
    )
    nearest = (of_worst @ of_train.T).topk(NEIGHBOURS).indices.tolist()
    return [
        {
            "index": int(index),
            "label": int(dataset.test.labels[index]),
            "predicted": int(predicted[index]),
            "probability": float(confidence[index]),
            "neighbours": rows,
        }
        for index, rows in zip(worst, nearest, strict=True)
    ]


def held_out_probabilities(pool: Pool, folds: Sequence[Fold], runs: Sequence[Run]) -> np.ndarray:
    """Probabilities of every image of the pool, (N, classes), by the model that held it out."""
    parts = [cast(np.ndarray, run.val_probabilities) for run in runs]
    probabilities = np.empty((len(pool), parts[0].shape[1]), np.float32)
    for fold, part in zip(folds, parts, strict=True):
        probabilities[fold.held_out] = part
    return probabilities


def suspect_labels(splits: dict[str, Split], probabilities: np.ndarray) -> dict:
    """Which labels of some splits contradict held-out probabilities (N, classes) of all of them.

    `contradicted` counts those that are not the most probable class; `rows` are those that
    confident learning (Northcutt et al., 2021) suspects, the least probable label first.
    """
    labels = np.concatenate([split.labels for split in splits.values()])
    places = [(name, index) for name, split in splits.items() for index in range(len(split))]
    ranking = "self_confidence"
    rows = find_label_issues(labels, probabilities, return_indices_ranked_by=ranking, n_jobs=1)
    suspects = [
        {
            "split": places[row][0],
            "index": places[row][1],
            "label": int(labels[row]),
            "predicted": int(probabilities[row].argmax()),
            "probability_of_label": float(probabilities[row, labels[row]]),
        }
        for row in rows
    ]
    return {"contradicted": int((probabilities.argmax(1) != labels).sum()), "rows": suspects}


def one_a_class(split: Split) -> np.ndarray:
    """The row of each class's first image."""
    return np.array([np.flatnonzero(split.labels == label)[0] for label in np.unique(split.labels)])


if __name__ == "__main__":
    run_script(main)
