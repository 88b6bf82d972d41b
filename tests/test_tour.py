"""docs/tour.ipynb, run from its first to its last cell on generated images."""

import nbformat
from conftest import ROOT
from nbclient import NotebookClient


def test_notebook(copy, monkeypatch):
    monkeypatch.setenv("GENERATED_IMAGES", "1")
    path = copy / "docs" / "tour.ipynb"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}})
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert "generated images, not real cells" in printed
    assert "dihedral: True | False" in printed
    assert (copy / "plots" / "comparison.html").exists()


def test_committed_notebook_has_no_outputs():
    text = (ROOT / "docs" / "tour.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
