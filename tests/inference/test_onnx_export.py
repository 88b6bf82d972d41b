"""predict.py --export: a file for ONNX runtimes that answers as torch does."""

import copy
import json

import numpy as np
import pytest
import torch

from bloodcells.data import synthetic_cells
from bloodcells.inference import onnx_export
from bloodcells.inference.classifier import load_classifier

CELLS = synthetic_cells.make()["test"][0][:12]


def test_export_answers_as_torch_does(predict, weights, tmp_path):
    import onnxruntime

    path, theirs = tmp_path / "model.onnx", tmp_path / "model.onnx.part"
    theirs.write_text("mine")
    np.save(tmp_path / "cells.npy", CELLS)
    outcome = predict("--export", path, "--views", 8, tmp_path / "cells.npy")
    assert outcome.code == 0, outcome
    assert "12 images: the same label on 12, largest difference" in outcome.out
    assert {path.name for path in tmp_path.iterdir()} == {"cells.npy", path.name, theirs.name}
    assert theirs.read_text() == "mine"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = json.loads(predict(tmp_path / "cells.npy", "--views", 8, "--format", "json").out)
    for number in (1, 5):
        probabilities, distances = session.run(None, {"images": CELLS[:number]})
        assert probabilities.shape == (number, 8)
        expected = load_classifier(weights, 8, torch.device("cpu")).classifier
        far = expected.predict(torch.from_numpy(CELLS[:number]))[1]
        assert distances.tolist() == pytest.approx(far.tolist(), abs=1e-5)
        for got, row in zip(probabilities, rows[:number], strict=True):
            assert got.tolist() == pytest.approx(list(row["probabilities"].values()), abs=1e-5)


def test_an_export_that_answers_nothing_is_refused(fails, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "write", lambda *rest: None)
    monkeypatch.setattr(onnx_export, "compare", lambda *rest: (float("nan"), 0))
    line = fails("predict.py", "--weights", weights, "--export", tmp_path / "m.onnx")
    assert "onnxruntime differs from torch by nan" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changed", ["network.classifier.bias", "means"])
def test_an_export_that_answers_otherwise_is_refused(
    fails, weights, tmp_path, monkeypatch, changed
):
    write = onnx_export.write

    def of_another(classifier, path, size):
        other = copy.deepcopy(classifier)
        other.state_dict()[changed][..., 0] += 0.1
        write(other, path, size)

    monkeypatch.setattr(onnx_export, "write", of_another)
    line = fails("predict.py", "--weights", weights, "--export", tmp_path / "m.onnx")
    assert "onnxruntime differs from torch by " in line
    assert not list(tmp_path.iterdir())


def test_export_to_nowhere(fails, weights, tmp_path):
    (tmp_path / "file.txt").touch()
    for path in (
        tmp_path / "none" / "a.onnx",
        tmp_path,
        tmp_path / "file.txt" / "a.onnx",
        ".",
        "a.png",
    ):
        line = fails("predict.py", "--export", path, "--weights", weights)
        assert f"--export {path}: not a name ending in .onnx in an existing folder" in line


def test_export_checked_on_nothing(predict, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    outcome = predict("--export", tmp_path / "a.onnx", tmp_path)
    assert outcome.code == 2
    assert "none of the images can be used" in outcome.err.splitlines()[-1]
