"""The differential count: the share of each class among the white cells of a smear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bloodcells.evaluation.metrics import wilson_interval

NOT_WHITE = ("erythroblast", "platelet")


def differential(labels: Sequence[str], classes: Sequence[str]) -> list[dict]:
    """One row per class: its count, and its share of the white cells, 0 to 1.

    The share comes with a 95 % interval (Wilson, 1927), which covers sampling only, not
    misclassification. Erythroblasts and platelets are not white cells and have no share. Cells
    on which the model abstained are not counted.
    """
    counts = Counter(labels)
    white = sum(counts[name] for name in classes if name not in NOT_WHITE)
    rows = []
    for name in classes:
        row = {"class": name, "count": counts[name]}
        if name not in NOT_WHITE and white:
            low, high = wilson_interval(counts[name], white)
            row |= {"share": counts[name] / white, "low": low, "high": high}
        rows.append(row)
    return rows


def report(rows: Sequence[dict]) -> str:
    """The differential count as a table for the console."""
    lines = [f"  {'class':20} {'count':>6}   % of white cells [95 % interval, sampling only]"]
    for row in rows:
        share = ""
        if "share" in row:
            percents = (100 * row[key] for key in ("share", "low", "high"))
            share = "{:5.1f} [{:.1f}, {:.1f}]".format(*percents)
        lines.append(f"  {row['class']:20} {row['count']:6}   {share}".rstrip())
    return "\n".join(lines)
