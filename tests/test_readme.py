"""The documents' own commands work, and what they point at is there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn import field
from parsers import PARSERS
from PIL import Image
from shared import QUICK, ROOT

import ablation
import model_parameter_tuning
from bloodcells.cli.presets import PRESETS
from bloodcells.data import bloodmnist, synthetic_cells
from bloodcells.errors import UserError
from bloodcells.search.trials import COLUMNS

DOCUMENTS = [ROOT / "README.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
BLOCKS = [b for text in TEXTS.values() for b in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
LINES = {  # of all code blocks, plain ones too
    line.partition("  #")[0].partition(" > ")[0]
    for text in TEXTS.values()
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in block.replace("\\\n", " ").splitlines()
}
WRITTEN = sorted(line for line in LINES if re.search(r"\b(python|torchrun) .*\w+\.py\b", line))
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for block in BLOCKS
        for line in block.splitlines()
        if re.match(r"python \w+\.py", line) and "report.py" not in line
    }
)


def test_there_are_commands():
    assert len(COMMANDS) >= 20
    assert len(WRITTEN) > len(COMMANDS)


@pytest.mark.parametrize("line", WRITTEN)
def test_every_command_is_understood(monkeypatch, line):
    words = shlex.split(re.sub(r"\$\w+", "0", re.sub(r"\$\(.*?\)", "HOST", line)))
    place = next(n for n, word in enumerate(words) if word in PARSERS)
    monkeypatch.setattr("sys.argv", words[place:])
    PARSERS[words[place]](str(ROOT / words[place]))


def script_of(preset):
    """The script that a preset is for."""
    scripts = {"baseline": "model_baseline", "cnn": "model_cnn", "tuning": "model_parameter_tuning"}
    scripts |= {"release": "model_release", "data": "data_visualization", "batch": "batch_effect"}
    kind = preset.partition("-")[0]
    return f"{scripts.get(kind, kind)}.py"


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_every_preset_is_understood(monkeypatch, preset):
    script = script_of(preset)
    more = ["--elsewhere", "wbc"] if script == "model_release.py" else []
    monkeypatch.setattr("sys.argv", [script, "--config", preset, *more])
    PARSERS[script](str(ROOT / script))


def test_every_script_has_a_parser():
    assert {*PARSERS, "models.py"} == {path.name for path in ROOT.glob("*.py")}


ELSEWHERE = (  # tested there, on what they need
    *("predict.py", "tuning.py", "robustness.py", "architecture.py", "explain.py"),
    *("model_release.py", "bench.py", "demo.py", "hubconf.py", "cnn-distilled", "finetune.py"),
    *("ablation-robust", "data_visualization.py", "batch_effect.py --overwrite"),
)
TRAINING = [c for c in COMMANDS if not any(script in c for script in ELSEWHERE)]
# others differ from one that is trained in numbers alone: there, training ends as it begins
TRAINED = ("cnn-paper", "cnn-best --overwrite", "cnn-robust", "cnn-stages", "batch-effect-robust ")
SMALL = ("--synthetic", "--runs", "1", "--epochs", "2", "--views", "1")


class BegunError(Exception):
    """Training has begun."""


def begin(*_):
    raise BegunError


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("command", TRAINING)
def test_command_runs_on_generated_images(run, tmp_path, monkeypatch, command):
    script, *flags = command.split()[1:]
    quick = QUICK
    if "--config" in flags or "official" in flags:  # two epochs, so that focus sets in
        quick = [*SMALL, "--batch-size", "128"]
        network = "--config" in flags and "paper" not in command
        quick += ["--widths", "4", "8", "8"] * network
    elif script == "ablation.py":
        quick = ["--synthetic", "--epochs", "2", "--folds", "2", "--replicates", "2"]
        quick += ["--batch-size", "256", "--widths", "4", "8", "8", "--views", "1"]
        kept = ("whole-recipe", "constant-rate", "adam-alone", "network-of-the-paper")
        monkeypatch.setattr(ablation, "VARIANTS", {n: ablation.VARIANTS[n] for n in kept})
    if "--config" in flags and not any(preset in f"{command} " for preset in TRAINED):
        monkeypatch.setattr(f"{Path(script).stem}.train_epoch", begin)
        with pytest.raises(BegunError):
            run(script, *flags, *quick, "--output", tmp_path)
        return
    outcome = run(script, *flags, *quick, "--output", tmp_path)
    assert outcome.code == 0
    assert outcome.out.endswith(f"wrote {tmp_path}\n")


KEEPING = ("model_baseline.py", "model_cnn.py", "ablation.py", "batch_effect.py", "explain.py")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[1] in KEEPING])
def test_command_is_not_refused_for_a_committed_run(run, monkeypatch, command):
    def stop(folder, *_, **__):
        raise UserError(f"folder {folder}")

    load = bloodmnist.load  # generated images, so that no data is needed
    monkeypatch.setattr(bloodmnist, "load", lambda **more: load(**more | {"synthetic": True}))
    monkeypatch.setattr("model_cnn.Teacher", lambda *_: None)  # whose weights are not committed
    monkeypatch.setattr("bloodcells.tracking.run_folder.prepare", stop)
    laboratory = SimpleNamespace(images=None)
    monkeypatch.setattr("bloodcells.evaluation.elsewhere.read", lambda *_: laboratory)
    script, *flags = command.split()[1:]
    folder = ROOT / run(script, *flags).err.strip().partition("folder ")[2]
    assert folder.parent == ROOT / "plots"
    finished = (folder / "metrics.json").exists() or (folder / "ablation.json").exists()
    assert ("--overwrite" in flags) == finished


@pytest.mark.parametrize("command", [c for c in COMMANDS if "tuning.py" in c])
def test_search_runs_but_for_the_training(run, tmp_path, monkeypatch, command):
    history = {name: [0.5] * 50 for name in COLUMNS}
    model = {**history, "diverged": False, "seconds": 1.0}
    monkeypatch.setattr(model_parameter_tuning, "train_until_it_stops", lambda *_: model)
    script, *flags = command.split()[1:]
    fewer = ("--trials", "6") if "tuning-best" in command else ()
    outcome = run(script, *flags, *fewer, "--synthetic", "--output", tmp_path)
    assert outcome.code == 0
    assert outcome.out.endswith(f"wrote {tmp_path}\n")


PREDICTED = {  # lines on standard output, with the header of a table
    "docs/examples/": 9,
    "cell.png": 4,
    "cells.npy": 4,
    "sorted/": 2,
    "smear/": 2,
    "new/": 2,
    "--detect": 3,
    "--export": 1,
}


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
        "new/e.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells[0]).save(path)
    for name in ("field-1.jpg", "field-2.jpg"):
        field((300, 200), (150, 100, 30)).save(name)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for kind in ("safetensors", "json"):
        for name in ("mine", "plots/my-lab/finetuned"):
            path = tmp_path / f"{name}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(ROOT / "weights" / f"cnn-best.{kind}")
    script, *flags = shlex.split(command.partition(" > ")[0])[1:]
    outcome = run(script, *flags)
    assert outcome.code == 0
    (rows,) = [count for words, count in PREDICTED.items() if words in command]
    assert len(outcome.out.splitlines()) == rows
    assert "--export" not in command or "192 drawn cells" in outcome.out


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    texts = [*TEXTS.values(), (ROOT / "CONTRIBUTING.md").read_text()]
    code = re.findall(r"```.*?```|`[^`\n]*`", "\n".join(texts), re.DOTALL)
    targets = re.findall(r"\bmake (?:[A-Z]+=\S+ )?([\w-]+)", "\n".join(code))
    assert len(set(targets)) > 4
    for target in targets:
        assert f"\n{target}:" in makefile, target


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
    written_by_hand = re.sub(r"(?s)<!-- \w+: written by report.*?<!-- end of", "", text)
    assert len(written_by_hand.encode()) <= 7_000  # the rest names the machine
    for path in DOCUMENTS[1:]:
        assert f"]({path.relative_to(ROOT)})" in text


def test_every_script_has_its_line():
    for path in ROOT.glob("*.py"):
        assert f"`{path.name}`" in TEXTS[ROOT / "README.md"]


def test_make_reproduce_runs_the_commands_of_the_readme():
    target = re.search(
        r"^reproduce: setup\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    steps = target[1].replace("\t$(BIN)/", "").splitlines()
    (block,) = (block for block in BLOCKS if "-m pip install -r requirements-lock" in block)
    assert block.splitlines()[-6:] == steps


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize("target", ["help", "setup"])
def test_make_refuses_an_older_python_in_one_line(tmp_path, target):
    older = tmp_path / "python"
    set_version = "import sys; sys.version_info = (3, 10, 0)"
    older.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{set_version}\n$2"\n')
    older.chmod(0o755)
    command = ["make", target, f"PYTHON={older}", f"VENV={tmp_path / 'none'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Python 3.11 or newer is needed")
    assert "Traceback" not in done.stderr
