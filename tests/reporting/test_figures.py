"""Figures of what comes from outside: names of any kind, and more images than can be shown."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from bloodcells.data.bloodmnist import Split
from bloodcells.reporting.figures import comparison, data, domains, robustness

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
    comparison.curves(tmp_path / "comparison.svg", {NAME: [EPOCH]})
    for name in ("robustness", "domains", "comparison"):
        assert "lab_$A_$\\foo$?" in (tmp_path / f"{name}.svg").read_text()
    assert "mean over 1 or 2 models" in (tmp_path / "robustness.svg").read_text()


def test_of_many_pairs_the_first_are_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
    image = np.zeros((28, 28, 3), np.uint8)
    data.duplicates(tmp_path / "a.png", [(image, image, str(n)) for n in range(90)])
    assert [axes.get_title() for axes in drawn[0].axes] == [str(n) for n in range(60)]
    assert drawn[0].get_supxlabel().endswith("; 60 of 90 pairs")
