"""docs/tour.ipynb, run from its first to its last cell on generated images."""

import sys

import matplotlib
import nbformat
import warm
from shared import ROOT


def test_notebook(copy, monkeypatch, capsys):
    """In this process, which has loaded torch, and without a kernel; scripts as warm processes."""
    monkeypatch.setenv("GENERATED_IMAGES", "1")
    monkeypatch.chdir(copy / "docs")
    monkeypatch.setattr(sys, "path", sys.path[:])
    matplotlib.use("agg")

    def start(command, cwd, **_):
        return warm.run(*command[1:], cwd=cwd, drawn=True)

    monkeypatch.setattr("subprocess.run", start)
    names = {}
    for cell in nbformat.read(copy / "docs" / "tour.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), names)
    printed = capsys.readouterr().out
    assert "generated images, not real cells" in printed
    assert "of the held-out images are misclassified" in printed
    assert "focus: 0.3 | 0.0" in printed
    assert (copy / "plots" / "comparison.html").exists()


def test_committed_notebook_has_no_outputs():
    text = (ROOT / "docs" / "tour.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
