"""The paper's table as Markdown: published, as published (ours), honest (ours)."""

from __future__ import annotations

from pathlib import Path

from bloodcells.reporting.tables.common import PAPER, ROWS, cell, comparison, mark, read_run

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


def paper_table(plots: Path) -> str:
    """The paper's table as Markdown: published, as published (ours), honest (ours)."""
    honest = {name: read_run(plots, preset) for name, preset in PAPER.items()}
    leaking = {name: read_run(plots, preset, "as-published") for name, preset in PAPER.items()}
    lines = [
        "| metric | published | as published (ours) | honest (ours) |",
        "|---|---|---|---|",
    ]
    for name in PAPER:
        for metric, words in ROWS.items():
            published = PUBLISHED[name].get(metric)
            older = mark(honest[name].metrics, leaking[name].metrics)
            cells = [
                f"{name} {words}{older}",
                "" if published is None else f"{published:.3f}",
                cell(leaking[name].metrics["test"][metric]),
                cell(honest[name].metrics["test"][metric]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    floor = honest["CNN"].metrics["test_majority_class_accuracy"]
    lines.append(f"| always the majority class, accuracy | | | {floor:.3f} |")
    paired = comparison(honest["CNN"], honest["baseline"], ("The CNN", "the baseline"))
    return "\n".join([*lines, "", explanation(honest, leaking), "", paired])


def explanation(honest: dict, leaking: dict) -> str:
    """How the columns differ."""
    runs = {len(run.probabilities) for run in honest.values()}
    folds = honest["CNN"].metrics["config"]["folds"]
    gap = {
        name: leaking[name].metrics["test"]["accuracy"]["mean"]
        - honest[name].metrics["test"]["accuracy"]["mean"]
        for name in PAPER
    }
    return (
        f"Honest: mean ± standard deviation over the models of {'/'.join(map(str, runs))} folds of "
        "train + validation, none trained on a test image; in brackets, the 95 % bootstrap "
        "interval over test images. As published: the folds are made from all three splits "
        "together, and only the last fold's model is scored. It was trained on about "
        f"{1 - 1 / folds:.0%} of the test images that it is scored on, and on a quarter more "
        "images than the honest models. Its accuracy differs from the honest mean by "
        f"{gap['CNN']:+.3f} (CNN) and {gap['baseline']:+.3f} (baseline)."
    )
