"""Measure accuracy on test images that are corrupted as microscopes, stains and files do it.

    python robustness.py                          # the paper's CNN and the best recipe, six minutes
    python robustness.py --kinds defocus noise    # some corruptions only

Reads the weights that model_cnn.py --save-weights left in the run folders, and changes no choice.
The same images of the test split, with each corruption at five severities, go to every model of a
run. Writes plots/robustness/.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcells.cli.arguments import (
    UserError,
    make_parser,
    parse,
    run_script,
    warning,
    whole_number,
)

if TYPE_CHECKING:  # torch takes seconds to load
    import torch

    from bloodcells.tracking.run_folder import SavedRun


def main() -> None:
    args = parse_arguments()

    from bloodcells.data import bloodmnist, corruptions
    from bloodcells.reporting import results
    from bloodcells.reporting.figures import robustness as robustness_figures
    from bloodcells.tracking import run_folder
    from bloodcells.training import loop

    unknown = [kind for kind in args.kinds or () if kind not in corruptions.CORRUPTIONS]
    if unknown:
        known = ", ".join(corruptions.CORRUPTIONS)
        raise UserError(f"--kinds {unknown[0]}: no such corruption; there are {known}")
    kinds = args.kinds or list(corruptions.CORRUPTIONS)
    device = loop.choose_device(args.device)
    environment = run_folder.environment(device.type)
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    runs = [run_folder.read(run_folder.find(path)) for path in args.runs]
    if len({run.folder.name for run in runs}) < len(runs):
        raise UserError("--runs: two folders have the same name, which tells runs apart here")
    loop.keep_freed_memory()
    models = {run.folder.name: load_models(run, dataset.describe(), device) for run in runs}
    test = dataset.test.sample(args.images, args.seed)

    rows = []
    for kind, severity, images in corruptions.versions(test.images, kinds, args.seed):
        row = {"corruption": kind, "severity": severity, "accuracy": {}}
        for name, networks in models.items():
            row["accuracy"][name] = [
                accuracy(network, images, test.labels, device) for network in networks
            ]
        rows.append(row)
        print(robustness_figures.line(row), flush=True)
    content = {
        "dataset": dataset.describe(),
        "split": "test",
        "images": len(test),
        "config": {k: v for k, v in results.config(args).items() if k != "runs"},
        "environment": environment,
        "runs": {run.folder.name: run.metrics["config"] for run in runs},
        "rows": rows,
    }
    cell = test.images[:1]
    examples = {kind: [cell[0]] for kind in kinds}
    for kind, _, images in corruptions.versions(cell, kinds, args.seed):
        if kind:
            examples[kind].append(images[0])
    robustness_figures.save(args.output, content, examples, args.figure_format, warning(args))


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, preset="robustness")
    group = parser.add_argument_group("robustness")
    group.add_argument(
        "--runs", nargs="+", type=Path, metavar="DIR", help="folders of runs with weights"
    )
    group.add_argument("--kinds", nargs="+", metavar="NAME", help="corruptions (default: all)")
    group.add_argument(
        "--images", type=whole_number(1, 10**9), default=1000, help="test images, classes in share"
    )
    args = parse(parser)
    if not args.runs:
        raise UserError("--runs: name the folders of runs whose weights were saved")
    return args


def load_models(run: SavedRun, dataset: dict, device: torch.device) -> list:
    """The networks of a run. Raises `UserError` if its weights are missing or of other data."""
    import torch

    from bloodcells.tracking import run_folder

    if run.metrics["dataset"] != dataset:
        raise UserError(f"--runs {run.folder}: trained on other data than {dataset['name']} here")
    if run.metrics["leaks_test_images"]:
        raise UserError(f"--runs {run.folder}: trained on these test images")
    files = [str(row.get("weights")) for row in run.metrics["runs"]]
    if not all((run.folder / name).is_file() for name in files):
        raise UserError(f"--runs {run.folder}: no weights there; train it with --save-weights")
    networks = (run_folder.network(run, name) for name in files)
    return [network.to(device, memory_format=torch.channels_last) for network in networks]


def accuracy(network, images, labels, device: torch.device) -> float:
    """The share of images that a network gets right in one view."""
    import torch

    from bloodcells.training import loop

    probabilities = loop.predict(network, torch.from_numpy(images).to(device))
    return float((probabilities.argmax(1).numpy() == labels).mean())


if __name__ == "__main__":
    run_script(main)
