"""The documents' own commands work, and what they point at is there."""

import json
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, ROOT
from PIL import Image, ImageDraw

import model_parameter_tuning
from bloodcells.data import synthetic_cells
from bloodcells.errors import UserError
from bloodcells.search.trials import COLUMNS

DOCUMENTS = [ROOT / "README.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
BLOCKS = [b for text in TEXTS.values() for b in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for block in BLOCKS
        for line in block.splitlines()
        if re.match(r"python \w+\.py", line) and "report.py" not in line
    }
)


def test_there_are_commands():
    assert len(COMMANDS) >= 5


ELSEWHERE = (  # tested there, on what they need
    *("predict.py", "tuning.py", "robustness.py", "architecture.py", "explain.py"),
    *("model_release.py", "bench.py", "demo.py", "hubconf.py", "cnn-distilled"),
)
TRAINING = [c for c in COMMANDS if not any(script in c for script in ELSEWHERE)]


@pytest.mark.parametrize("command", TRAINING)
def test_command_runs_on_generated_images(run, tmp_path, command):
    script, *flags = command.split()[1:]
    quick = ["--synthetic"] if script == "data_visualization.py" else QUICK
    if "cnn-" in command:  # official protocol, two epochs before focus sets in
        quick = ["--synthetic", "--runs", "2", "--epochs", "2", "--widths", "4", "8", "8"]
    elif script == "ablation.py":
        quick = ["--synthetic", "--epochs", "2", "--replicates", "2", "--batch-size", "256"]
        quick += [] if "--elsewhere" in flags else ["--widths", "4", "8", "8"]
    if "--elsewhere" in flags:
        place = tmp_path / "elsewhere"
        (place / "monocyte").mkdir(parents=True)
        cell = Image.fromarray(synthetic_cells.make()["test"][0][0])
        cell.resize((84, 84)).save(place / "monocyte" / "a.png")
        flags[flags.index("--elsewhere") + 1] = place
        quick += ["--only", "colour-unchanged", "--widths", "4", "8", "8", "--views", "1"]
    outcome = run(script, *flags, *quick, "--output", tmp_path)
    assert outcome.code == 0
    assert outcome.out.endswith(f"wrote {tmp_path}\n")


KEEPING = ("model_baseline.py", "model_cnn.py", "ablation.py", "explain.py")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[1] in KEEPING])
def test_command_is_not_refused_for_a_committed_run(run, monkeypatch, command):
    def stop(folder, *_):
        raise UserError(f"folder {folder}")

    monkeypatch.setattr("bloodcells.tracking.run_folder.prepare", stop)
    script, *flags = re.sub(r" --elsewhere \S+", "", command).split()[1:]
    folder = Path(run(script, *flags).err.strip().partition("folder ")[2])
    assert folder.parent == ROOT / "plots"
    finished = (folder / "metrics.json").exists() or (folder / "ablation.json").exists()
    assert ("--overwrite" in flags) == finished


@pytest.mark.parametrize("command", [c for c in COMMANDS if "tuning.py" in c])
def test_search_runs_but_for_the_training(run, tmp_path, monkeypatch, command):
    history = {name: [0.5] * 50 for name in COLUMNS}
    model = {**history, "diverged": False, "seconds": 1.0}
    monkeypatch.setattr(model_parameter_tuning, "train_until_it_stops", lambda *_: model)
    script, *flags = command.split()[1:]
    outcome = run(script, *flags, "--synthetic", "--output", tmp_path)
    assert outcome.code == 0
    assert outcome.out.endswith(f"wrote {tmp_path}\n")


@pytest.mark.parametrize("command", [c for c in COMMANDS if "predict.py" in c])
def test_prediction_runs(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    cells = synthetic_cells.make()["test"][0][:3]
    np.save("cells.npy", cells)
    for name in (
        "cell.png",
        "photographs/a.jpg",
        "slide 7/b.jpg",
        "sorted/monocyte/c.tif",
        "smear/d.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells[0]).save(path)
    field = Image.new("RGB", (300, 200), (230, 215, 220))
    ImageDraw.Draw(field).ellipse((120, 70, 180, 130), (110, 60, 150))
    for name in ("field-1.jpg", "field-2.jpg"):
        field.save(name)
    script, *flags = shlex.split(command.partition(" > ")[0])[1:]
    outcome = run(script, *flags)
    assert outcome.code == 0
    # the export; one or three images, or two cells, with a header
    assert len(outcome.out.splitlines()) in (1, 2, 3, 4)


def test_audit_sentences_are_what_the_audit_found():
    text = " ".join(TEXTS[ROOT / "docs" / "data.md"].split())
    found = json.loads((ROOT / "plots/data/audit.json").read_text())
    summary = found["summary"]
    with_test = [g for g in found["exact_duplicate_groups"] if "test" in [r["split"] for r in g]]
    repeats = Counter(r["split"] for group in with_test for r in group)
    for sentence in (
        f"{summary['exact_duplicate_groups']} pairs of images are equal byte for byte, and "
        f"{summary['exact_duplicate_groups_across_splits']} of them cross the splits: "
        f"{repeats['train']} test images repeat a training image and {repeats['val']} a validation",
        f"{summary['near_duplicate_pairs']} more pairs differ by at most 12 grey levels",
        f"In all, {summary['test_images_with_a_twin_elsewhere']} of 3,421 test images have a twin",
    ):
        assert sentence in text
    assert summary["conflicting_groups"] == 1
    assert summary["test_images_with_a_twin_elsewhere"] / 3421 < 0.003


def test_suspect_labels_are_as_many_as_the_card_says():
    text = " ".join(TEXTS[ROOT / "MODEL_CARD.md"].split())
    found = json.loads((ROOT / "plots/explain/metrics.json").read_text())
    assert f"suspects the {len(found['suspect_labels']['rows'])} below" in text
    of_test = len(found["suspect_labels_of_test"]["rows"])
    assert f"{of_test} suspect labels of the test split" in text


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(BLOCKS), re.MULTILINE):
        assert f"\n{target}:" in makefile


def anchors(text):
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_are_there(path):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXTS[path]) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_is_short_and_leads_to_every_document():
    text = TEXTS[ROOT / "README.md"]
    assert len(text.encode()) <= 10_000
    for path in DOCUMENTS[1:]:
        assert f"]({path.relative_to(ROOT)})" in text


def test_every_script_has_its_line():
    for path in ROOT.glob("*.py"):
        assert f"`{path.name}`" in TEXTS[ROOT / "README.md"]
