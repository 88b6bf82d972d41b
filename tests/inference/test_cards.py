"""Released weights and their cards: those that do not belong together are refused in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from random_weights import changed
from safetensors.torch import load_file, save_file

from bloodcells.data.framing import Square
from bloodcells.inference.cards import TAKEN, read_card
from bloodcells.inference.classifier import Classifier, md5_of
from bloodcells.inference.fine_tuning import holds_for
from bloodcells.inference.output import ABSTAINED, Prediction

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def complaint(fails, weights, tmp_path):
    """What predict.py says of some weights."""
    image = tmp_path / "cell.png"
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(image)
    return lambda path: fails("predict.py", image, "--weights", path)


def copied(weights, target, state):
    """Other tensors with the same card, which has their MD5."""
    save_file(state, target)
    card = json.loads(weights.with_suffix(".json").read_text())
    card["md5"] = md5_of(target.read_bytes())
    target.with_suffix(".json").write_text(json.dumps(card))
    return target


def calibration(**entries):
    """The card's calibration with one entry changed, for one view."""
    part = {"temperature": 1.0, "sets": {"0.95": 0.5, "0.99": 0.1}}
    return {"calibration": {"1": {**part, **entries}, "8": part}}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (calibration(temperature=0), "temperature: not from 0.01 to 100"),
        (calibration(temperature=-1.5), "temperature: not from 0.01 to 100"),
        (calibration(temperature=float("nan")), "NaN is not JSON"),
        (calibration(temperature=10**400), "temperature: not from 0.01 to 100"),
        (calibration(temperature=1e-320), "temperature: not from 0.01 to 100"),
        (calibration(temperature=True), "temperature: not from 0.01 to 100"),
        (calibration(sets=[]), "sets: not an object"),
        (calibration(sets={"0.95": 0.5}), "sets: 0.99: not a number from 0 to 1"),
        (calibration(sets={"0.95": 2, "0.99": 0}), "sets: 0.95: not a number from 0 to 1"),
        (calibration(sets={"0.95": 0.1, "0.99": 0.5}), "sets: the bound of 0.95 is below"),
        ({"calibration": {}}, "calibration: nothing for 1 views"),
        ({"calibration": {"1": [], "8": []}}, "calibration: nothing for 1 views"),
        ({"size": 28.5}, "size: not one of 28, 64"),
        ({"size": 28.0}, "size: not one of 28, 64"),
        ({"size": 7}, "size: not one of 28, 64"),
        ({"size": True}, "size: not one of 28, 64"),
        ({"normalisation": "pixel / 255"}, "normalisation: not pixel / 127.5 - 1"),
        ({"parameters": "many"}, "parameters: not a whole number"),
        ({"widths": "48"}, "widths: not null or a list"),
        ({"widths": [4, -8, 8]}, "widths: not null or a list"),
        ({"classes": "abcdefgh"}, "classes: not a list of different names"),
        ({"classes": ["a"] * 8}, "classes: not a list of different names"),
        ({"classes": [*"abcdefg", "\x1b[2J"]}, "classes: not a list of different names"),
        ({"classes": [*"abcdefg", "\u202e"]}, "classes: not a list of different names"),
        ({"classes": [*"abcdefg", " "]}, "classes: not a list of different names"),
        ({"classes": [*"abcdefg", "path"]}, "classes: not a list of different names"),
        ({"classes": list("abc")}, "frequencies: not one for each class"),
        ({"frequencies": [0.5] * 8}, "frequencies: they do not add up to 1"),
        ({"frequencies": [0.0] * 8}, "frequencies: not a list of shares"),
        ({"frequencies": [1e-320] * 8}, "frequencies: not a list of shares"),
        ({"farthest": "far"}, "farthest: not a number"),
        ({"farthest": -1}, "farthest: not a number"),
        ({"model": "ResNet18"}, "model: not CellNet or RobustNet"),
        ({"model": ["CellNet"]}, "model: not CellNet or RobustNet"),
        ({"md5": "\x1b[31m"}, "md5: not an MD5"),
    ],
)
def test_cards_that_describe_no_model(complaint, weights, tmp_path, entries, says):
    line = complaint(changed(weights, tmp_path / "wrong.safetensors", **entries))
    assert f"its card describes no model: {says}" in line


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", DEEP, '{"a": ' + DEEP + "}"])
def test_texts_that_are_no_card(text):
    with pytest.raises(ValueError, match=r"."):
        read_card(text)


@pytest.mark.parametrize("entry", [True, None, {}, {"config": {}}, {"config": "slide"}])
def test_a_card_that_does_not_tell_how_it_was_fitted(weights, tmp_path, entry):
    odd = changed(weights, tmp_path / "odd.safetensors", fine_tuned=entry)
    assert holds_for(weights) is None
    assert holds_for(odd) == "the slides fitted to"


def test_no_class_may_have_the_name_of_a_column():
    square, pixels = Square(0, 0, 28), np.zeros((28, 28, 3), np.uint8)
    one = Prediction("a", "b", 1.0, {}, False, False, pixels, set=[], truth="b", square=square)
    assert {*one.columns(), ABSTAINED} - {"probabilities"} == set(TAKEN)


def test_weights_that_their_card_does_not_describe(complaint, weights, tmp_path):
    other = changed(weights, tmp_path / "other.safetensors", widths=[4, 8, 12])
    assert "the weights do not match the card" in complaint(other)
    larger = changed(weights, tmp_path / "larger.safetensors", parameters=10**6)
    assert "the weights do not match the card: a network of" in complaint(larger)
    stages = changed(weights, tmp_path / "stages.safetensors", widths=[4, 8])
    assert "the weights do not match the card" in complaint(stages)
    state = load_file(weights)
    few = copied(weights, tmp_path / "few.safetensors", state | {"means": state["means"][:5]})
    assert "not one mean of the features for each class" in complaint(few)
    del state["means"]
    lacking = copied(weights, tmp_path / "lacking.safetensors", state)
    assert "the weights do not match the card: 'means'" in complaint(lacking)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(complaint, weights, tmp_path, value):
    state = load_file(weights)
    state["network.classifier.bias"] = torch.full_like(state["network.classifier.bias"], value)
    line = complaint(copied(weights, tmp_path / "nan.safetensors", state))
    assert "some weights are NaN or infinite" in line


def test_weights_whose_answers_overflow(complaint, weights, tmp_path):
    state = {name: value.float() * 1e30 for name, value in load_file(weights).items()}
    line = complaint(copied(weights, tmp_path / "large.safetensors", state))
    assert "they give no probabilities" in line


def test_a_card_of_a_huge_network_takes_no_memory(complaint, weights, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda w, **_: made.append(w.device.type))
    huge = changed(weights, tmp_path / "huge.safetensors", widths=[1024, 1024, 1024])
    assert "the weights do not match the card" in complaint(huge)
    assert set(made) == {"meta"}


def test_a_device_without_memory_is_not_taken_for_wrong_weights(complaint, weights, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(Classifier, "to", full)
    assert "is out of memory; pass --device cpu" in complaint(weights)


def test_weights_that_are_missing_or_damaged(complaint, weights, tmp_path):
    assert "is missing" in complaint(tmp_path / "none.safetensors")
    assert "MD5" in complaint(changed(weights, tmp_path / "a.safetensors", md5="0" * 32))
    cut = changed(weights, tmp_path / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:500])
    assert "MD5" in complaint(cut)
