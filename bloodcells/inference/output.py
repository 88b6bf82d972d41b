"""The rows of `predict.py` as a table, CSV or JSON, and a report against the true classes."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator

Row = dict  # path, label, probability, probabilities (by class), unlike_training; maybe set, truth
ABSTAINED = "abstained"


def as_table(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as an aligned table: a header line, then one line per row."""
    yield f"{'class':20} {'p':>6}  {'second':20} {'p':>6}    path"
    for row in rows:
        (_, _), (second, p) = sorted(row["probabilities"].items(), key=lambda item: -item[1])[:2]
        mark = "?" if row["unlike_training"] else " "
        sets = f"  {{{', '.join(row['set'])}}}" if "set" in row else ""
        yield (
            f"{row['label']:20} {row['probability']:6.4f}  {second:20} {p:6.4f}  {mark} "
            f"{printable(row['path'])}{sets}"
        )


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as CSV, with one column for each class's probability."""
    for number, row in enumerate(rows):
        flat = {**row, **row["probabilities"]}
        del flat["probabilities"]
        if "set" in flat:
            flat["set"] = " | ".join(flat["set"])
        if number == 0:
            yield csv_line(flat)
        yield csv_line(flat.values())


def csv_line(values: Iterable) -> str:
    """One line of CSV, without the line ending."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)  # so that \r and \n are quoted
    return line.getvalue().removesuffix("\r\n")


def as_json(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as one JSON list, one row per line."""
    comma = "["
    for row in rows:
        yield f"{comma}{json.dumps(row)}"
        comma = ","
    yield "]" if comma == "," else "[]"


def printable(name: str) -> str:
    """A name on one line, with control characters escaped."""
    return "".join(c if c.isprintable() or ord(c) > 0xD7FF else repr(c)[1:-1] for c in name)


def report(truths: list[str], answers: list[str], classes: list[str]) -> str:
    """Accuracy, recall by class and confusion matrix of the answers.

    The answer `ABSTAINED` counts as a miss in the recall, and is left out of the accuracy.
    """
    columns = [*classes, *([ABSTAINED] if ABSTAINED in answers else [])]
    counts = Counter(zip(truths, answers, strict=True))
    right = sum(counts[name, name] for name in classes)
    answered = len(answers) - answers.count(ABSTAINED)
    lines = [f"{right} of {answered} answers right, accuracy {right / max(answered, 1):.4f}"]
    if answered < len(answers):
        lines[0] += f"; answered {answered / len(answers):.4f} of the images"
    lines += ["recall, then images by class (row) and answer (column):"]
    lines += [f"  {'':20} recall " + " ".join(f"{name[:7]:>7}" for name in columns)]
    for name in classes:
        if name in truths:
            cells = " ".join(f"{counts[name, column] or '.':>7}" for column in columns)
            lines += [f"  {name:20} {counts[name, name] / truths.count(name):6.3f} {cells}"]
    return "\n".join(lines)
