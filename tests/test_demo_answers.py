"""What the page of demo.py says of images: marks, and counts of classes."""

import base64
import io
import re
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

import demo
from bloodcells.data import synthetic_cells
from bloodcells.inference.classifier import load_classifier


def test_the_marks_are_where_the_map_is(weights, monkeypatch):
    """Each image's strongest place, however weak; not what speaks against its class."""
    model = load_classifier(weights, 1, torch.device("cpu"))
    ones = [demo.UserImage("a", "a", np.full((28, 28, 3), 200, np.uint8)) for _ in range(2)]
    found = list(demo.classify(ones, model, {}, 128, "0.95", 0.0))
    places = torch.zeros(2, 7, 7)
    places[0, 1, 5], places[0, 5, 1], places[1, 3, 0] = 2.0, -9.0, 0.01
    monkeypatch.setattr(demo, "class_maps", lambda *_: places)
    for url, place in zip(demo.maps(model, found), ((1, 5), (3, 0)), strict=True):
        blue = np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))[..., 2]
        marked = np.argwhere(blue < 200 * 0.45)
        assert marked.mean(0) / 4 - 0.375 == pytest.approx(place, abs=0.3)
        assert (blue == 200).mean() > 0.7


def test_the_page_counts_the_classes_of_the_images_that_can_be_used(weights, tmp_path):
    model = load_classifier(weights, 1, torch.device("cpu"))
    cells = synthetic_cells.make()["test"][0][:10]
    for number, pixels in enumerate(cells):
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    (tmp_path / "99.png").write_text("no picture")
    names = sorted(map(str, tmp_path.iterdir()))
    page = demo.answer(names, model, tmp_path / "uploads")
    counted = dict(re.findall(r"<tr><td>([a-z ]+)</td><td>(\d+)</td>", page))
    labels = Counter(re.findall(r"<b>(.*?)</b>, probability", page))
    assert {name: int(count) for name, count in counted.items() if count != "0"} == labels
    assert "Differential count" not in demo.answer(names[1:], model, tmp_path / "uploads")
