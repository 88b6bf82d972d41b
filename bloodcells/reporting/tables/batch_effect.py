"""What the second batch costs models that were not trained on it, as Markdown."""

from __future__ import annotations

from pathlib import Path

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.reporting.tables.common import cell, mark, read_study

STUDIES = {  # presets of batch_effect.py, and the recipe of each
    "batch-effect-paper": "the paper's CNN",
    "batch-effect": "`cnn-fast-60`",
    "batch-effect-robust": "`cnn-robust`, smaller and shorter",
}
COLUMNS = {  # score: what it is of
    "first_batch": "test, first batch",
    "second_batch": "second batch, all",
    "new_without": "second batch, new to both",
    "new_with": "the same, trained with others of the batch",
}


def batch_effect(plots: Path) -> str:
    """The study's recipes, one row each."""
    found = {}
    for preset in STUDIES:
        flag = "" if preset == "batch-effect" else f" --config {preset}"
        command = f"python batch_effect.py{flag} --overwrite"
        settings = load_preset(PRESETS / f"{preset}.toml")
        found[preset] = read_study(plots / preset / "metrics.json", settings, command)
    first = next(iter(found.values()))
    images = first["scores"]["images"]
    lines = [head("recipe")]
    lines += [f"| {STUDIES[name]} | {row(one['scores'])}" for name, one in found.items()]
    return "\n".join(
        [
            *lines,
            "",
            "Balanced accuracy over the seven classes of the second batch (it has no platelets), "
            f"mean ± standard deviation over {first['config']['runs']} seeds [95 % bootstrap "
            "interval over images, resampled within classes]; the paper's CNN with one view, the "
            "others with eight. The first three columns are of models trained on the first batch "
            f"alone, the fourth of models trained on as many images of each class, with those of "
            f"the second batch among them. {images['first']:,} test images of the first batch, "
            f"{images['second']} of the second, of which {images['new']} are of the validation and "
            "test splits, new to both. Gain: the fourth column less the third, on the same images, "
            f"in points. Nothing was chosen on these scores.{mark(*found.values())}",
        ]
    )


def summary_of(scores: dict) -> list[str]:
    """The table of one experiment, to print."""
    return [head("balanced accuracy"), f"| of seven classes | {row(scores)}"]


def head(first: str) -> str:
    """The table's head."""
    names = [first, *COLUMNS.values(), "gain"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def row(scores: dict) -> str:
    """An experiment's scores, but for the first cell of the row."""
    gain = {key: 100 * value for key, value in scores["gain"].items()}
    cells = [cell(scores[name]) for name in COLUMNS]
    cells.append("{mean:+.1f} ± {std:.1f} [{low:+.1f}, {high:+.1f}]".format(**gain))
    return f"{' | '.join(cells)} |"
