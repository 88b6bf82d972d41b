"""Print the paper's table beside ours from the run folders, and write it into the README.

    python report.py            # reads plots/, prints the table, rewrites the README's marked block
    python report.py --check    # changes nothing; exit code 2 if the README's block is old

Every figure is read from metrics.json and predictions.npz of finished runs.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

from command_line import PRESETS, ROOT, Parser, UserError, run_script
from recipe import Recipe

# Hobelsberger et al., "Optimizing Blood Cell Classification with Convolutional Neural Networks"
PUBLISHED = {
    "CNN": {
        "accuracy": 0.914,
        "precision_macro": 0.912,
        "recall_macro": 0.896,
        "f1_macro": 0.901,
    },
    "baseline": {
        "accuracy": 0.781,
        "precision_macro": 0.775,
        "recall_macro": 0.738,
        "f1_macro": 0.748,
    },
}
FOLDERS = {"CNN": "cnn-paper", "baseline": "baseline"}
SCRIPTS = {"CNN": "model_cnn.py", "baseline": "model_baseline.py"}
ROWS = {  # balanced accuracy is the macro recall under another name
    "accuracy": "accuracy",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "F1",
    "auc_macro": "AUC",
    "mcc": "MCC",
}
BEGIN, END = "<!-- table: written by report.py -->", "<!-- end of table -->"


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plots", type=Path, default=ROOT / "plots", metavar="DIR", help="folder of run folders"
    )
    parser.add_argument(
        "--readme", type=Path, default=ROOT / "README.md", metavar="FILE", help="file to rewrite"
    )
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    args = parser.parse_args()

    try:
        block = paper_table(args.plots)
    except KeyError as error:
        raise UserError(
            f"{args.plots}: a run's metrics.json lacks {error}; make it again"
        ) from error
    print(block)
    before = read_readme(args.readme)
    after = replace_block(before, block, args.readme)
    if args.check and after != before:
        raise UserError(f"{args.readme} is out of date: run python report.py")
    if after != before:
        write_readme(args.readme, after)
        print(f"wrote the table into {args.readme}")


def paper_table(plots: Path) -> str:
    """The paper's table as Markdown: published, as published (ours), honest (ours)."""
    honest = {name: read_run(plots, name, "") for name in FOLDERS}
    leaking = {name: read_run(plots, name, "-as-published") for name in FOLDERS}
    lines = [
        "| macro average | published | as published (ours) | honest (ours) |",
        "|---|---|---|---|",
    ]
    for name in FOLDERS:
        for metric, words in ROWS.items():
            published = PUBLISHED[name].get(metric)
            cells = [
                f"{name} {words}",
                "" if published is None else f"{published:.3f}",
                cell(leaking[name].metrics["test"][metric]),
                cell(honest[name].metrics["test"][metric]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    floor = honest["CNN"].metrics["test_majority_class_accuracy"]
    lines.append(f"| majority class accuracy | | | {floor:.3f} |")
    return "\n".join([*lines, "", explanation(honest, leaking), "", comparison(honest)])


def cell(value: dict) -> str:
    """mean +- standard deviation over runs [95 % interval of test sampling]."""
    spread = "" if value["std"] is None else f" ± {value['std']:.3f}"
    return f"{value['mean']:.3f}{spread} [{value['low']:.3f}, {value['high']:.3f}]"


def explanation(honest: dict, leaking: dict) -> str:
    """What tells the columns apart, in two sentences."""
    runs = {len(run.probabilities) for run in honest.values()}
    folds = honest["CNN"].metrics["config"]["folds"]
    gap = {
        name: leaking[name].metrics["test"]["accuracy"]["mean"]
        - honest[name].metrics["test"]["accuracy"]["mean"]
        for name in FOLDERS
    }
    return (
        f"Honest: mean ± standard deviation over {'/'.join(map(str, runs))} folds of train + "
        "validation, the test split unseen; in brackets the 95 % interval of test sampling. "
        "As published: all three splits are pooled before the folds are made, so the one model "
        f"that is scored, the last fold's, was trained on about {1 - 1 / folds:.0%} of the test "
        "images it is scored on, and on a quarter more images in all. Its accuracy differs from "
        f"the honest mean by {gap['CNN']:+.3f} (CNN) and {gap['baseline']:+.3f} (baseline)."
    )


def comparison(honest: dict) -> str:
    """CNN against baseline on the same test images, fold by fold."""
    import numpy as np

    from evaluation import mcnemar

    cnn, baseline = honest["CNN"], honest["baseline"]
    same_folds = cnn.probabilities.shape == baseline.probabilities.shape
    if not same_folds or not np.array_equal(cnn.labels, baseline.labels):
        raise UserError("the CNN's and the baseline's runs are of different images or folds")
    tests = [
        mcnemar(cnn.labels, first.argmax(1), second.argmax(1))
        for first, second in zip(cnn.probabilities, baseline.probabilities, strict=True)
    ]
    better = sum(test["only_first"] > test["only_second"] for test in tests)
    pairs = ", ".join(f"{test['only_first']}:{test['only_second']}" for test in tests)
    worst = max(test["p"] for test in tests)
    return (
        f"CNN against baseline on the same test images (McNemar's exact test, fold by fold): the "
        f"CNN is better in {better} of {len(tests)} folds, largest p = {worst:.1e}. Images that "
        f"only the CNN and only the baseline got right: {pairs}."
    )


def read_run(plots: Path, name: str, suffix: str):
    """A run of the table. Raises `UserError` if it is missing, synthetic, or mislabelled."""
    import run_folder

    folder = plots / (FOLDERS[name] + suffix)
    protocol = " --protocol as-published" if suffix else ""
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder}: no finished run; make it with python {SCRIPTS[name]}{protocol}")
    run = run_folder.read(folder)
    if run.metrics["dataset"]["synthetic"]:
        raise UserError(f"{folder}: a run on generated images never enters a table")
    preset = PRESETS / f"{FOLDERS[name]}.toml"
    expected = {field.name: field.default for field in fields(Recipe)} | {"size": 28}
    expected |= tomllib.loads(preset.read_text(encoding="utf-8"))
    expected["protocol"] = "as-published" if suffix else "cross-validation"
    for key, value in expected.items():
        if value is MISSING:  # no default: the preset names it
            continue
        if run.metrics["config"].get(key.replace("-", "_"), value) != value:
            raise UserError(
                f"{folder}: {key} is not {value} as the table demands; make the run again with "
                f"python {SCRIPTS[name]}{protocol}"
            )
    return run


def read_readme(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--readme {path}: cannot be read: {error}") from error


def write_readme(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UserError(f"--readme {path}: cannot be written: {error}") from error


def replace_block(text: str, block: str, path: Path) -> str:
    """`text` with what stands between the markers replaced by `block`."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise UserError(f"--readme {path}: the lines '{BEGIN}' and '{END}' are missing")
    return f"{head}{BEGIN}\n{block}\n{END}{tail}"


if __name__ == "__main__":
    run_script(main)
