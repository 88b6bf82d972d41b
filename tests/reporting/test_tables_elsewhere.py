"""What the tables of other laboratories' images say of the results that they are made from."""

import json

import pytest

from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.errors import UserError
from bloodcells.reporting.tables import elsewhere as elsewhere_tables


def test_scores_elsewhere(plots):
    path = plots / "release" / "metrics.json"
    found = json.loads(path.read_text())
    found["elsewhere"]["views"]["8"]["adapted"] = {"mean": 0.12345, "std": 0.6789}
    path.write_text(json.dumps(found))
    lines = elsewhere_tables.elsewhere(plots).splitlines()
    row = next(line for line in lines if "all classes possible, with `--adapt`" in line)
    assert row.endswith("| 0.1235 ± 0.6789 |")
    answers = {name: {"mean": 0.0, "std": 0.0} for name in CLASS_NAMES}
    answers |= {"monocyte": {"mean": 0.7, "std": 0.1}, "platelet": {"mean": 0.26, "std": 0.2}}
    answers["basophil"] = {"mean": 0.04, "std": 0.0}
    found["elsewhere"]["views"]["8"]["answers"] = {"monocyte": answers}
    ends = {"mean": 0.7, "low": 0.41, "high": 0.83}
    found["elsewhere"]["views"]["8"]["recalls_over_slides"] = {"monocyte": ends}
    path.write_text(json.dumps(found))
    count, on = (found["elsewhere"][key]["monocyte"] for key in ("counts", "slides_by_class"))
    row = f"| monocyte | {count} | {on} | 0.70 ± 0.10 [0.41, 0.83] | platelet 26% |"
    lines = elsewhere_tables.elsewhere(plots).splitlines()
    assert row in lines
    found["elsewhere"]["views"]["8"]["over_slides"] = {"mean": 0.58, "low": 0.4111, "high": 0.7222}
    path.write_text(json.dumps(found))
    assert " [0.411, 0.722] |" in elsewhere_tables.elsewhere(plots)
    path.write_text(json.dumps({**found, "elsewhere": {**found["elsewhere"], "images": 3}}))
    with pytest.raises(UserError, match="scored on different images elsewhere"):
        elsewhere_tables.elsewhere(plots)
    for without in ({**found["elsewhere"], "slides": None}, {}):
        path.write_text(json.dumps({**found, "elsewhere": without}))
        with pytest.raises(UserError, match=r"rerun python model_release\.py --elsewhere DIR"):
            elsewhere_tables.elsewhere(plots)


def test_ablation_of_randomisation(plots):
    path = plots / "ablation-robust" / "ablation.json"
    found = json.loads(path.read_text())
    left_out = next(row for row in found["variants"] if row["changes"] == {"unchanged": "dirt"})
    for kinds, its in zip(left_out["corrupted"], found["variants"][0]["corrupted"], strict=True):
        kinds |= {"bubbles": 0.1, "specks": 0.2, "noise": 0.3}
        its |= dict.fromkeys(("bubbles", "specks", "noise"), 0.5)
    path.write_text(json.dumps(found))
    _, row = elsewhere_tables.ablation(plots).split(f"| {left_out['name']} |")
    assert row.split(" | ")[2] == "-30.00 ± 0.00 (50.00)"
