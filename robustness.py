"""Measure accuracy on test images corrupted as microscopes, stains and files do.

    python robustness.py                          # the runs of .config/robustness.toml, six minutes
    python robustness.py --kinds defocus noise    # only these corruptions

Reads the weights in the run folders. Those of cnn-paper and cnn-robust are not in the repository:
train them first. Every model classifies the same test images, with each corruption at five
severities. No choice depends on these results; cnn-robust was chosen on validation images with the
same corruptions. Writes metrics.json, two figures and the predicted classes (predictions.npz) into
plots/robustness/.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_robustness

if __name__ == "__main__":
    run_script(parse_robustness, __file__)  # --help ends before torch loads; main parses again

from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloodcells.cli.arguments import data_settings, settings_of, warning
from bloodcells.data import bloodmnist, corruptions
from bloodcells.errors import UserError
from bloodcells.evaluation.unseen import predicted_classes
from bloodcells.inference.networks import load_networks
from bloodcells.reporting.figures import robustness as figures
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment
from bloodcells.tracking.run_folder import SavedRun
from bloodcells.training.device import choose_device, keep_freed_memory


def main() -> None:
    """Score the models of each run folder on the test images, under each corruption."""
    args = parse_robustness(__file__)

    unknown = [kind for kind in args.kinds or () if kind not in corruptions.CORRUPTIONS]
    if unknown:
        known = ", ".join(corruptions.CORRUPTIONS)
        raise UserError(f"--kinds {unknown[0]}: no such corruption; the corruptions are {known}")
    kinds = args.kinds or list(corruptions.CORRUPTIONS)
    device = choose_device(args.device, args.threads)
    record = environment(device.type, args.code)
    runs = [run_folder.read(run_folder.find(path)) for path in args.runs]
    codes = {run.folder.name: run.metrics.get("code") for run in runs}
    code = args.code.made_of(codes)
    run_folder.prepare(args.output, code, script=code.script)
    dataset = bloodmnist.load(**data_settings(args))
    if len({run.folder.name for run in runs}) < len(runs):
        raise UserError("--runs: two folders have the same name, by which they are told apart")
    keep_freed_memory()
    models = {run.folder.name: load_models(run, dataset.describe(), device) for run in runs}
    test = dataset.test.sample(args.images, args.seed)

    rows = []
    answers: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for kind, severity, images in corruptions.versions(test.images, kinds, args.seed):
        row: dict = {"corruption": kind, "severity": severity, "accuracy": {}}
        for name, networks in models.items():
            found = np.stack([predicted_classes(network, images) for network in networks])
            row["accuracy"][name] = (found == test.labels).mean(1).tolist()
            answers[name].append(found.astype(np.uint8))
        rows.append(row)
        print(line(row), flush=True)
    content = {
        "dataset": dataset.describe(),
        "split": "test",
        "images": len(test),
        "config": {k: v for k, v in settings_of(args).items() if k != "runs"},
        "code": code.describe(),
        "environment": record,
        "runs": {run.folder.name: run.metrics["config"] for run in runs},
        "runs_code": codes,
        "rows": rows,
    }
    cell = test.images[:1]
    examples = {kind: [cell[0]] for kind in kinds}
    for kind, _, images in corruptions.versions(cell, kinds, args.seed):
        if kind:
            examples[kind].append(images[0])

    def fill(folder: Path) -> None:
        suffix, mark = args.figure_format, warning(args)
        figures.curves(folder / f"accuracy.{suffix}", rows, mark)
        figures.strips(folder / f"examples.{suffix}", examples, mark)
        arrays: dict[str, Any] = {f"answers_{k}": np.stack(v) for k, v in answers.items()}
        np.savez_compressed(folder / "predictions.npz", labels=test.labels, **arrays)
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json")
    print(f"wrote {args.output}")


def load_models(run: SavedRun, dataset: dict, device: torch.device) -> list:
    """The networks of a run folder on the device. Raises `UserError`."""
    return [
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for network in load_networks(run, dataset, f"--runs {run.folder}")
    ]


def line(row: dict) -> str:
    """A row as text for the console."""
    means = ", ".join(f"{name} {np.mean(values):.3f}" for name, values in row["accuracy"].items())
    what = f"{row['corruption']} {row['severity']}" if row["corruption"] else "as they are"
    return f"  {what:15} {means}"


if __name__ == "__main__":
    run_script(main)
