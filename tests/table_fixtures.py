"""Fixtures of the tables: folders as of finished real runs, and documents to write into."""

import itertools
import shutil

import numpy as np
import pytest
from shared import QUICK, ROOT
from written import change

import report
from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.data.photographs import CLASS_OF, STAGES, Photograph
from bloodcells.reporting.tables import batch_effect, reading, studies
from bloodcells.reporting.tables import stages as stages_tables
from bloodcells.reporting.tables.reading import PAPER
from bloodcells.tracking import run_folder


@pytest.fixture(scope="session")
def quick_ablation(tmp_path_factory, run_once):
    """An ablation on generated images, of one change."""
    folder = tmp_path_factory.mktemp("runs") / "ablation"
    flags = ["--synthetic", "--epochs", "2", "--replicates", "2", "--only", "no-shift"]
    flags += ["--batch-size", "96", "--widths", "4", "4", "8"]
    run_once("ablation.py", *flags, "--output", folder)
    return folder


@pytest.fixture(scope="session")
def quick_stages(tmp_path_factory, run_once):
    """The same as `quick_run`, with stages of maturation."""
    folder = tmp_path_factory.mktemp("runs") / "stages"
    run_once("model_baseline.py", *QUICK, "--labels", "stages", "--output", folder)
    return folder


@pytest.fixture
def plots(quick_run, quick_stages, quick_ablation, tmp_path, monkeypatch):
    """The folders of all tables, made of generated runs relabelled as real and of today's code."""
    monkeypatch.setattr(reading, "older_commit", lambda found: None)
    monkeypatch.setattr(studies, "MIXED", {"cnn-best": 1, "cnn-robust": 2})  # of two models each
    runs = [(preset, None) for preset in (*PAPER.values(), *studies.LADDER)]
    runs += [(preset, "as-published") for preset in PAPER.values()]
    runs += [(name, None) for name in ("cnn-robust", "cnn-stages", "cnn-distilled")]
    runs += [(name, "train-and-validation") for name in ("cnn-best", "cnn-robust")]
    for preset, protocol in dict.fromkeys(runs):
        few = "-runs-2" if protocol and preset == "cnn-robust" else ""
        folder = tmp_path / "plots" / (preset + few + (f"-{protocol}" if protocol else ""))
        shutil.copytree(quick_stages if preset == "cnn-stages" else quick_run, folder)
        settings = load_preset(PRESETS / f"{preset}.toml")
        config = {key.replace("-", "_"): value for key, value in settings.items()}
        config |= {"protocol": protocol or config["protocol"], "views": config.get("views", 1)}
        config |= {"runs": 2} if few else {}
        change(folder, dataset={"synthetic": False, "name": "BloodMNIST"}, config=config)
    studies_there = ("release", "release-best", "tuning", "robustness", "bench", "ablation-robust")
    studies_there += ("finetune",)
    for name in (*studies_there, *batch_effect.RECIPES):
        shutil.copytree(ROOT / "plots" / name, tmp_path / "plots" / name)
    (tmp_path / "plots" / "explain").mkdir()
    suspects = (
        "split,index,label,predicted,probability_of_label\ntest,3,0,1,0.01\ntrain,4,0,1,0.02\n"
    )
    (tmp_path / "plots" / "explain" / "suspect_labels.csv").write_text(suspects)
    shutil.copy(ROOT / "plots/explain/metrics.json", tmp_path / "plots" / "explain")
    monkeypatch.setattr(stages_tables, "read_table", lambda: {"test": photographs_of(quick_run)})
    leave_out_unknown(tmp_path / "plots" / "cnn-stages", photographs_of(quick_run))
    shutil.copytree(quick_ablation, tmp_path / "plots" / "ablation")
    settings = load_preset(PRESETS / "ablation.toml")
    config = {key.replace("-", "_"): value for key, value in settings.items()}
    config["only"] = None
    path = tmp_path / "plots" / "ablation"
    change(path, "ablation.json", dataset={"synthetic": False, "name": "BloodMNIST"}, config=config)
    return tmp_path / "plots"


def photographs_of(folder):
    """Photographs for generated test images: of each class, its stages in turn."""
    labels = run_folder.read(folder).labels
    stages = {
        name: itertools.cycle([stage for stage in CLASS_OF if CLASS_OF[stage] == name])
        for name in CLASS_NAMES
    }
    return [
        Photograph(
            f"{n}.jpg", next(stages[CLASS_NAMES[label]]), (360, 363 - 3 * (n < 4)), 2.0, n < 2
        )
        for n, label in enumerate(labels)
    ]


def leave_out_unknown(folder, photographs):
    """Keep the predictions of images with a stage, labelled with it."""
    known = np.array([one.stage in STAGES for one in photographs])
    with np.load(folder / "predictions.npz") as saved:
        kept = {"probabilities": saved["probabilities"][:, known], "split": "test"}
    kept["labels"] = np.array([STAGES.index(x.stage) for x in photographs if x.stage in STAGES])
    np.savez(folder / "predictions.npz", **kept)


@pytest.fixture
def documents(tmp_path, plots):
    """Flags that name documents whose blocks are old."""
    for name, blocks in report.BLOCKS.items():
        path = tmp_path / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        old = [f"<!-- {b}: written by report.py -->\nold\n<!-- end of {b} -->" for b in blocks]
        path.write_text("\n".join(["above", *old, "below\n"]))
    return ["--plots", plots, "--root", tmp_path / "documents"]


@pytest.fixture
def readme(tmp_path, documents):
    return tmp_path / "documents" / "README.md"
