"""The differential count: the share of each class among the white cells of a smear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bloodcells.evaluation.metrics import wilson_interval

NOT_WHITE = ("erythroblast", "platelet")
LEFT_SHIFT = ("promyelocyte", "myelocyte", "metamyelocyte", "band neutrophil")


def differential(counts: Mapping[str, int], classes: Sequence[str]) -> list[dict]:
    """One row per class, from the counts by class: its count, and its share of the white cells.

    The share comes with a 95 % interval (Wilson, 1927), which covers sampling only, not
    misclassification. Erythroblasts and platelets are not white cells and have no share. Cells
    on which the model abstained are not counted. Stages have one row more: the left shift, which is
    the bands and the immature granulocytes together.
    """
    white = sum(counts.get(name, 0) for name in classes if name not in NOT_WHITE)
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in classes}
    if set(LEFT_SHIFT) <= set(classes):
        groups["left shift"] = LEFT_SHIFT
    rows = []
    for name, members in groups.items():
        count = sum(counts.get(member, 0) for member in members)
        row = {"class": name, "count": count}
        if name not in NOT_WHITE and white:
            low, high = wilson_interval(count, white)
            row |= {"share": count / white, "low": low, "high": high}
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
