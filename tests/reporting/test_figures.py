"""Figures of what comes from outside: names of any kind, and more images than can be shown."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from shared import ROOT, SAVE_FIGURE

from bloodcells.data.bloodmnist import Split
from bloodcells.evaluation import metrics
from bloodcells.reporting.figures import (
    comparison,
    data,
    domains,
    robustness,
    search,
    studies,
    training,
)
from bloodcells.reporting.tables.cells import scores_of_class
from bloodcells.reporting.tables.studies import ladder_points

NAME = "lab_$A_$\\foo$\udcff"  # neither mathematics nor UTF-8
EPOCH = {"seed": 0, "fold": None, "epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5}


@pytest.mark.usefixtures("drawn_figures")
def test_names_are_drawn_as_they_are(tmp_path):
    images = Split(np.zeros((8, 28, 28, 3), np.uint8), np.arange(8))
    rows = [
        {"corruption": kind, "severity": severity, "accuracy": {NAME: [0.5], "other": [0.4, 0.6]}}
        for kind, severity in ((None, 0), ("blur", 1))
    ]
    robustness.curves(tmp_path / "robustness.svg", rows, None)
    domains.domains(tmp_path / "domains.svg", [(NAME, images, "0.5")], None)
    comparison.curves(tmp_path / "comparison.svg", {NAME: [EPOCH]}, None)
    counts = np.eye(2)
    training.confusion_matrix(tmp_path / "matrix.svg", counts, [NAME, "b"], counted="images")
    for name in ("robustness", "domains", "comparison", "matrix"):
        assert "lab_$A_$\\foo$?" in (tmp_path / f"{name}.svg").read_text()
    assert "mean over 1 or 2 models" in (tmp_path / "robustness.svg").read_text()


def test_a_class_without_images_has_no_recall(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args: drawn.append(figure) or SAVE_FIGURE(figure, *args)
    )
    labels = np.repeat([0, 1], 50)
    rows = metrics.per_class(labels, np.eye(3)[labels][None], ("a", "b", "never seen"))
    training.class_recall(tmp_path / "a.png", rows, None, counted="test images")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["1.000", "1.000"]
    assert axes.get_xlim()[0] > 0
    assert [scores_of_class(row) for row in rows[1:]] == [["1.000"] * 3, ["-"] * 3]


def test_of_many_pairs_the_first_are_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
    image = np.zeros((28, 28, 3), np.uint8)
    data.duplicates(tmp_path / "a.png", [(image, image, str(n)) for n in range(90)])
    assert [axes.get_title() for axes in drawn[0].axes] == [str(n) for n in range(60)]
    assert drawn[0].get_supxlabel().endswith("; 60 of 90 pairs")


def clean_and_blurred(count):
    accuracy = {f"recipe {number}": [0.9] for number in range(count)}
    return [
        {"corruption": kind, "severity": severity, "accuracy": accuracy}
        for kind, severity in ((None, 0), ("blur", 1))
    ]


TRIAL = {"train_loss": [1.0], "val_loss": [1.0], "diverged": False}
DIFFERENT = Split(np.zeros((8, 28, 28, 3), np.uint8), np.arange(8)), (np.eye(8), np.eye(8)[::-1])


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: studies.ladder(path, ladder_points(ROOT / "plots")),
        lambda path: robustness.curves(path, clean_and_blurred(2), None),
        lambda path: search.learning_curves(
            path, {f"{name}: {'weight decay 0.0123, ' * 9}": [TRIAL] for name in "ab"}, None
        ),
        lambda path: comparison.curves(
            path, {"long name " * 2 + str(n): [EPOCH] for n in "ab"}, "x"
        ),
        lambda path: comparison.curves(path, {f"run {n}": [EPOCH] for n in range(20)}, None),
        lambda path: comparison.differing(path, *DIFFERENT, ("long name " * 2, "b" * 20), "x"),
    ],
    ids=["ladder", "one corruption", "settings of trials", "two", "many", "images"],
)
def test_no_word_leaves_the_page(tmp_path, monkeypatch, draw):
    outside = []

    def measured(figure, path):
        SAVE_FIGURE(figure, path)
        words = [text for part in (figure, *figure.subfigs) for text in part.texts]
        words += [axes.title for axes in figure.axes]
        words += [text for legend in figure.legends for text in legend.get_texts()]
        for text in words:
            box = text.get_window_extent()
            inside = min(box.x0, box.y0) >= -1 and box.x1 <= figure.bbox.x1 + 1
            if text.get_text() and not (inside and box.y1 <= figure.bbox.y1 + 1):
                outside.append(text.get_text())

    monkeypatch.setattr(Figure, "savefig", measured)
    draw(tmp_path / "a.png")
    assert outside == []
