"""predict.py: abstentions, prediction sets, and images unlike the training images."""

import json

import numpy as np
import pytest
from random_weights import changed


def test_abstaining(predict, twelve):
    rows = json.loads(predict(twelve, "--format", "json").out)
    bar = float(np.median([row["probability"] for row in rows]))
    outcome = predict(twelve, "--format", "json", "--abstain-below", bar, "--labelled")
    held = [row["label"] == "abstained" for row in json.loads(outcome.out)]
    assert held == [row["probability"] < bar for row in rows]
    assert any(held)
    assert "abstai" in outcome.err


@pytest.mark.parametrize(("level", "least"), [("0.95", 0.15), ("0.99", 0.11)])
def test_sets_hold_all_classes_above_their_level_s_threshold(
    run, weights, predict, twelve, tmp_path, level, least
):
    part = {"temperature": 1.0, "sets": {"0.95": 0.15, "0.99": 0.11}}
    other = changed(weights, tmp_path / "a.safetensors", calibration={"1": part, "8": part})
    flags = ("--weights", other, "--format", "json", "--sets", level)
    rows = json.loads(run("predict.py", twelve, *flags).out)
    for row in rows:
        assert row["set"] == [k for k, p in row["probabilities"].items() if p >= least]
    assert any(0 < len(row["set"]) < 8 for row in rows)
    assert predict(twelve, "--sets", "0.95").out.count("{") == 12
    assert " | " in predict(twelve, "--sets", "0.95", "--format", "csv").out


def test_images_unlike_the_training_cells_are_told(run, weights, twelve, tmp_path):
    strict = changed(weights, tmp_path / "strict.safetensors", farthest=0.0)
    outcome = run("predict.py", twelve, "--weights", strict, "--format", "json")
    assert all(row["unlike_training"] for row in json.loads(outcome.out))
    assert "12 of 12 images are unlike the training images" in outcome.err
    assert run("predict.py", twelve, "--weights", strict).out.count("  ? ") == 12
    assert outcome.code == 0
