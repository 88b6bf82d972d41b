"""The differential count, against counts by hand."""

import pytest

from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.data.photographs import STAGES
from bloodcells.evaluation.differential import differential, report
from bloodcells.evaluation.metrics import wilson_interval
from bloodcells.inference.output import ABSTAINED


def rows_of(counts, classes):
    return {row["class"]: row for row in differential(counts, classes)}


def test_shares_are_of_the_white_cells():
    counts = {"neutrophil": 6, "lymphocyte": 2, "erythroblast": 5, "platelet": 9, ABSTAINED: 7}
    rows = rows_of(counts, CLASS_NAMES)
    assert list(rows) == list(CLASS_NAMES)
    assert rows["neutrophil"]["share"] == pytest.approx(6 / 8)
    interval = rows["neutrophil"]["low"], rows["neutrophil"]["high"]
    assert interval == pytest.approx(wilson_interval(6, 8))
    assert (rows["basophil"]["count"], rows["basophil"]["share"]) == (0, 0)
    for name, count in (("erythroblast", 5), ("platelet", 9)):
        assert rows[name] == {"class": name, "count": count}


def test_the_left_shift_is_that_of_stages():
    counts = {"band neutrophil": 2, "myelocyte": 1, "segmented neutrophil": 6, "lymphocyte": 1}
    rows = rows_of(counts, STAGES)
    assert rows["left shift"]["count"] == 3
    assert rows["left shift"]["share"] == pytest.approx(3 / 10)
    assert sum(rows[name]["count"] for name in STAGES) == 10
    assert "\n  left shift                3    30.0 [" in report(list(rows.values()))


def test_without_white_cells_there_are_no_shares():
    assert not [row for row in differential({"platelet": 3}, CLASS_NAMES) if "share" in row]
