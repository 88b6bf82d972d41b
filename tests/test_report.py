"""The table: from finished real runs only, and the committed README is what it writes."""

import importlib
import itertools
import json
import shutil

import numpy as np
import pytest
from conftest import QUICK, ROOT

import report
from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.data.photographs import CLASS_OF, STAGES, Photograph
from bloodcells.errors import UserError
from bloodcells.reporting.tables import common, studies
from bloodcells.reporting.tables import elsewhere as elsewhere_tables
from bloodcells.reporting.tables import release as release_tables
from bloodcells.reporting.tables import search as search_table
from bloodcells.reporting.tables import stages as stages_tables
from bloodcells.reporting.tables.common import PAPER
from bloodcells.reporting.tables.paper import paper_table
from bloodcells.reporting.tables.speed import speed
from bloodcells.tracking import provenance, run_folder


@pytest.fixture(scope="module")
def quick_ablation(tmp_path_factory):
    """An ablation on generated images, of one change."""
    folder = tmp_path_factory.mktemp("runs") / "ablation"
    flags = ["--synthetic", "--epochs", "2", "--replicates", "2", "--only", "no-shift"]
    flags += ["--batch-size", "96", "--widths", "4", "4", "8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["ablation.py", *flags, "--output", str(folder)])
        importlib.import_module("ablation").main()
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
    monkeypatch.setattr(common, "older_commit", lambda found: None)
    runs = [(preset, None) for preset in (*PAPER.values(), *studies.LADDER)]
    runs += [(preset, "as-published") for preset in PAPER.values()]
    runs += [(name, None) for name in ("cnn-robust", "cnn-stages", "cnn-distilled")]
    runs += [("cnn-best", "train-and-validation")]
    for preset, protocol in dict.fromkeys(runs):
        folder = tmp_path / "plots" / (f"{preset}-{protocol}" if protocol else preset)
        shutil.copytree(quick_stages if preset == "cnn-stages" else quick_run, folder)
        settings = load_preset(PRESETS / f"{preset}.toml")
        config = {key.replace("-", "_"): value for key, value in settings.items()}
        config |= {"protocol": protocol or config["protocol"], "views": config.get("views", 1)}
        change(folder, dataset={"synthetic": False, "name": "BloodMNIST"}, config=config)
    for name in ("release", "release-best", "tuning", "robustness", "bench", "ablation-robust"):
        shutil.copytree(ROOT / "plots" / name, tmp_path / "plots" / name)
    (tmp_path / "plots" / "explain").mkdir()
    suspects = (
        "split,index,label,predicted,probability_of_label\ntest,3,0,1,0.01\ntrain,4,0,1,0.02\n"
    )
    (tmp_path / "plots" / "explain" / "suspect_labels.csv").write_text(suspects)
    monkeypatch.setattr(stages_tables, "read_table", lambda: {"test": photographs_of(quick_run)})
    leave_out_unknown(tmp_path / "plots" / "cnn-stages", photographs_of(quick_run))
    shutil.copytree(quick_ablation, tmp_path / "plots" / "ablation")
    settings = load_preset(PRESETS / "ablation.toml")
    config = {key.replace("-", "_"): value for key, value in settings.items()}
    path = tmp_path / "plots" / "ablation"
    change(path, "ablation.json", dataset={"synthetic": False, "name": "BloodMNIST"}, config=config)
    return tmp_path / "plots"


def photographs_of(folder):
    """Photographs for generated test images: of each class, its stages in turn."""
    labels = np.load(folder / "predictions.npz")["labels"]
    stages = {
        name: itertools.cycle([stage for stage in CLASS_OF if CLASS_OF[stage] == name])
        for name in CLASS_NAMES
    }
    return [
        Photograph(f"{n}.jpg", next(stages[CLASS_NAMES[label]]), (360, 363), 2.0, n < 2)
        for n, label in enumerate(labels)
    ]


def leave_out_unknown(folder, photographs):
    """Keep the predictions of images with a stage, labelled with it."""
    known = np.array([one.stage in STAGES for one in photographs])
    with np.load(folder / "predictions.npz") as saved:
        kept = {"probabilities": saved["probabilities"][:, known], "split": "test"}
    kept["labels"] = np.array([STAGES.index(x.stage) for x in photographs if x.stage in STAGES])
    np.savez(folder / "predictions.npz", **kept)


def change(folder, name="metrics.json", **changes):
    path = folder / name
    metrics = json.loads(path.read_text())
    for key, value in changes.items():
        if isinstance(value, dict):
            metrics.setdefault(key, {}).update(value)
        else:
            metrics[key] = value
    path.write_text(json.dumps(metrics))


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


def test_tables_are_written_between_their_markers(run, plots, documents, readme):
    accuracy = {"mean": 0.87654, "std": 0.01234, "low": 0.85, "high": 0.9}
    change(plots / "cnn-paper", test={"accuracy": accuracy})
    assert run("report.py", *documents, "--check").code == 2
    assert not (plots / "report.html").exists()
    assert "old" in readme.read_text()
    outcome = run("report.py", *documents)
    assert outcome.code == 0
    text = readme.read_text()
    assert text.startswith("above\n<!-- paper: written by report.py -->\n| metric |")
    assert text.endswith("<!-- end of headline -->\nbelow\n")
    assert "\nold\n" not in text
    assert (plots / "ladder.png").stat().st_size > 10_000
    row = next(line for line in text.splitlines() if line.startswith("| CNN accuracy"))
    assert row.split(" | ")[1] == "0.914"
    assert row.endswith("| 0.877 ± 0.012 [0.850, 0.900] |")
    assert row in outcome.out
    assert run("report.py", *documents, "--check").code == 0
    for path in readme.parent.rglob("*.md"):
        assert "\nold\n" not in path.read_text()
    assert json.loads((plots / "code.json").read_text())["model_cnn.py"]
    assert (plots / "report.html").stat().st_size > 100_000


def test_comparison_counts_images(plots):
    folder = plots / "cnn-paper"
    saved = run_folder.read(folder)
    perfect = np.eye(8, dtype=np.float32)[saved.labels][None].repeat(2, 0)
    np.savez(folder / "predictions.npz", probabilities=perfect, labels=saved.labels)
    text = paper_table(plots)
    wrong = [(p.argmax(1) != saved.labels).sum() for p in saved.probabilities]
    assert f"{wrong[0]}:0, {wrong[1]}:0" in text
    assert "better in 2 of 2 pairs of runs" in text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "metrics.json").unlink(), "run python model_cnn.py"),
        (lambda f: (f / "predictions.npz").unlink(), "no finished experiment"),
        (lambda f: (f / "metrics.json").write_text("{"), "the results are damaged"),
        (lambda f: (f / "predictions.npz").write_bytes(b"PK"), "the results are damaged"),
        (lambda f: change(f, dataset={"synthetic": True}), "never enter a table"),
        (lambda f: change(f, code={"edited": ["models.py"]}), "results of edited code never enter"),
        (lambda f: change(f, config={"protocol": "as-published"}), "protocol is not cross-val"),
        (lambda f: change(f, config={"epochs": 1}), "epochs is not 5, as the table requires"),
        (lambda f: change(f, config={"dihedral": True}), "dihedral is not False"),
        (lambda f: change(f, config={"model": "Baseline"}), "model is not ConvNet"),
        (lambda f: (f / "metrics.json").write_text("{}"), "metrics.json lacks config"),
    ],
)
def test_unfit_runs_are_named(fails, plots, documents, readme, spoil, says):
    before = readme.read_text()
    spoil(plots / "cnn-paper")
    line = fails("report.py", *documents)
    assert says in line
    assert str(plots / "cnn-paper") in line
    assert readme.read_text() == before


def test_a_run_without_a_metric_of_the_table(fails, plots, documents):
    path = plots / "cnn-paper" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test_majority_class_accuracy"]
    path.write_text(json.dumps(metrics))
    line = fails("report.py", *documents)
    assert "lacks 'test_majority_class_accuracy'" in line


def test_a_bad_card_leaves_the_readme(fails, plots, documents, readme):
    before = readme.read_text()
    change(plots / "robustness", runs={"cnn-best": {"epochs": 1}})
    assert "epochs is not 24, as the table requires" in fails("report.py", *documents)
    (plots / "robustness" / "metrics.json").unlink()
    assert "cannot be read; run python robustness.py" in fails("report.py", *documents)
    assert readme.read_text() == before


def test_card_shows_what_was_measured(plots):
    precision = {"precision": 0.12345, "recall": 0.5, "recall_low": 0.4, "recall_high": 0.6}
    metrics = json.loads((plots / "cnn-robust" / "metrics.json").read_text())
    rows = metrics["test_per_class"]
    change(plots / "cnn-robust", test_per_class=[rows[0] | precision, *rows[1:]])
    assert f"| basophil | {rows[0]['support']} | 0.123 | 0.500 [0.400, 0.600] |" in (
        release_tables.results(plots).splitlines()
    )
    found = json.loads((plots / "robustness" / "metrics.json").read_text())["rows"]
    for row in found:
        if row["corruption"] == "noise":
            row["accuracy"] = {name: [row["severity"] / 10] for name in row["accuracy"]}
    change(plots / "robustness", rows=found)
    row = next(x for x in release_tables.robustness(plots).splitlines() if x.startswith("| noise"))
    assert row == "| noise | noise |" + 3 * " 10.0 | 30.0 | 50.0 |"


def test_errors_by_stage(plots):
    folder = plots / "cnn-best"
    with np.load(folder / "predictions.npz") as saved:
        arrays = dict(saved)
    labels, stages = arrays["labels"], [one.stage for one in photographs_of(folder)]
    arrays["probabilities"] = np.eye(8, dtype=np.float32)[labels][None].repeat(2, axis=0)
    wrong = [n for n, stage in enumerate(stages) if stage == "metamyelocyte"][:2]
    neutrophil = CLASS_NAMES.index("neutrophil")
    arrays["probabilities"][1, wrong] = np.eye(8)[neutrophil]
    np.savez(folder / "predictions.npz", **arrays)
    images = stages.count("metamyelocyte")
    lines = stages_tables.errors(plots).splitlines()
    (row,) = (line for line in lines if line.startswith("| metamyelocyte |"))
    assert row.startswith(f"| metamyelocyte | {images} | {1 / images:.1%} [")
    assert row.endswith("| 100.0% | neutrophil 100% |")
    assert f"Accuracy {1 - 1 / len(labels):.4f}; " in lines[-1]
    assert "counted as right: 1.0000" in lines[-1]


def test_scores_elsewhere(plots):
    path = plots / "release" / "metrics.json"
    found = json.loads(path.read_text())
    found["elsewhere"]["views"]["8"]["adapted"] = {"mean": 0.12345, "std": 0.6789}
    path.write_text(json.dumps(found))
    row = next(
        x for x in elsewhere_tables.elsewhere(plots).splitlines() if "classes, with `--" in x
    )
    assert row.endswith("| 0.1235 ± 0.6789 |")
    del found["elsewhere"]
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match="--config release with --elsewhere DIR"):
        elsewhere_tables.elsewhere(plots)


def test_document_without_markers(fails, plots, documents, readme, tmp_path):
    readme.write_text("no table here")
    assert "are missing" in fails("report.py", *documents)
    readme.write_bytes(b"\xff\xfe")
    assert "cannot be read" in fails("report.py", *documents)
    readme.unlink()
    assert f"{readme}: cannot be read" in fails("report.py", *documents)


def test_ladder_shows_both_views_and_the_models_together(plots):
    folder = plots / "cnn-best"
    values = {"mean": 0.98765, "std": 0.00123, "low": 0.98, "high": 0.99}
    metrics = json.loads((folder / "metrics.json").read_text())
    changed = {name: {**values, "mean": mean} for name, mean in (("one", 0.91), ("all", 0.92))}
    change(
        folder,
        test={"accuracy": values},
        test_one_view={"accuracy": changed["one"]},
        test_ensemble={"accuracy": {**changed["all"], "std": None}},
        runs=[row | {"train_seconds": 100.0, "machine_gflops": 50.0} for row in metrics["runs"]],
    )
    row = next(r for r in studies.ladder(plots).splitlines() if r.startswith("| `cnn-best`"))
    assert row.split(" | ")[2:7] == [
        "0.9100 ± 0.0012 [0.9800, 0.9900]",
        "0.9877 ± 0.0012 [0.9800, 0.9900]",
        "0.9200 [0.9800, 0.9900]",
        "100",
        "5.0",
    ]
    assert "| `cnn-best` on train + validation | " in studies.ladder(plots)
    best = next(p for p in studies.ladder_points(plots) if p["name"] == "best")
    assert (best["train_seconds"], best["accuracy"]) == (100, 0.98765)


def test_ablation_table(plots):
    lines = studies.ablation(plots).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| whole recipe", "| no shift"]
    assert lines[2].endswith("|  | 1.00 |")
    found = json.loads((plots / "ablation" / "ablation.json").read_text())
    change = 100 * np.mean(found["variants"][1]["change"])
    assert f" | {change:+.2f} ± " in lines[3]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.unlink(), "run python ablation.py"),
        (lambda p: p.write_text("{"), "run python ablation.py"),
        (lambda p: change(p.parent, p.name, dataset={"synthetic": True}), "never enter a table"),
        (lambda p: change(p.parent, p.name, config={"epochs": 1}), "epochs is not 5, as the table"),
    ],
)
def test_unfit_ablation(plots, spoil, says):
    spoil(plots / "ablation" / "ablation.json")
    with pytest.raises(UserError, match=says):
        studies.ablation(plots)


def test_search_table_shows_what_was_measured(plots):
    folder = plots / "tuning"
    cells = json.loads((folder / "metrics.json").read_text())["cells"]
    for cell in cells:
        where = (cell["settings"][name] for name in ("lr", "batch_size", "epochs"))
        if tuple(where) == (0.001, 128, 50):
            cell["accuracy"] = [0.81, 0.83]
    change(folder, cells=cells)
    row = next(r for r in search_table.search(plots).splitlines() if r.startswith("| 0.001 | 128"))
    assert row.split(" | ")[3] == "0.820 ± 0.014 (2 of 5 folds)"
    best = json.loads((folder / "metrics.json").read_text())["best"]["accuracy"]
    few = [c["accuracy"] for c in cells if 0 < len(c["accuracy"]) < 5]
    needed = min((sum(best) - sum(values)) / (5 - len(values)) for values in few)
    assert f"it would have needed {needed:.3f} or more" in search_table.search(plots)
    assert row.endswith("| 0.915 at 50 epochs (best) |")
    change(folder, cells=cells[1:])
    with pytest.raises(UserError, match="some combinations are missing"):
        search_table.search(plots)


def test_trust_table_shows_what_was_measured(plots):
    found = json.loads((plots / "release" / "metrics.json").read_text())
    change(plots / "release", dataset={"synthetic": True})
    with pytest.raises(UserError, match="never enter a table"):
        release_tables.trust(plots)
    found["views"]["8"]["after"]["nll"] = {"mean": 0.01234, "std": 0.001}
    (plots / "release" / "metrics.json").write_text(json.dumps(found))
    row = next(line for line in release_tables.trust(plots).splitlines() if "log loss" in line)
    assert row.endswith("→ 0.0123 ± 0.0010 |")
    (plots / "release" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"run python model_release\.py"):
        release_tables.trust(plots)


def test_rows_of_older_code_are_marked(plots, monkeypatch):
    monkeypatch.undo()  # of `plots`, which takes all code for today's
    for path in plots.glob("*/*.json"):
        found = json.loads(path.read_text())
        if "code" in found:
            script = found["code"]["script"]
            now = provenance.code_of(ROOT / script).committed
            change(path.parent, path.name, code={"commit": "new", "script": script})
            found = json.loads(path.read_text()) | {"code": {**found["code"], "files": now}}
            path.write_text(json.dumps(found))
    assert "(code of" not in paper_table(plots)
    path = plots / "cnn-paper" / "metrics.json"
    found = json.loads(path.read_text())
    found["code"] |= {"commit": "0123456789ab"}
    found["code"]["files"] |= {"models.py": "0" * 12}
    path.write_text(json.dumps(found))
    assert "| CNN accuracy (code of 0123456789ab) |" in paper_table(plots)
    assert "| baseline accuracy |" in paper_table(plots)
    row = next(r for r in studies.ladder(plots).splitlines() if r.startswith("| `cnn-paper`"))
    assert row.startswith("| `cnn-paper` (code of 0123456789ab) |")
    del found["code"]  # as results had it before they knew their code
    path.write_text(json.dumps(found))
    commit = found["environment"]["git_commit"]
    assert f"| CNN accuracy (code of {commit}) |" in paper_table(plots)


def test_compare_shows_runs_of_edited_code(run, fails, plots, quick_run):
    change(plots / "cnn-paper", code={"edited": ["models.py"]}, config={"lr": 0.5})
    where = ("--plots", plots, "--data-root", plots)  # where there is no data file
    outcome = run("report.py", "--compare", plots / "baseline", plots / "cnn-paper", *where)
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    metrics = json.loads((plots / "cnn-paper" / "metrics.json").read_text())
    held_out = np.mean([row["val"]["accuracy"] for row in metrics["runs"]])
    assert lines[2].startswith(f"cnn-paper   {held_out:.4f} ± ")
    assert f"{metrics['test']['accuracy']['mean']:.4f} ± " in lines[2]
    assert "lr: 0.001 | 0.5" in lines
    assert any(x.startswith("cnn-paper: edited since commit ") and "models.py" in x for x in lines)
    assert lines[-5:-2] == [
        "on the same test images, only baseline : only cnn-paper right",
        *["  0 : 0, p = 1"] * 2,
    ]
    line = fails("report.py", "--compare", plots / "baseline", plots / "nothing")
    assert "no finished experiment" in line
    line = fails("report.py", "--compare", plots / "baseline", quick_run)
    assert "on different data from" in line
    line = fails("report.py", "--compare", plots / "baseline", "--check")
    assert "not allowed with" in line


def test_speed_table_shows_what_was_measured(plots):
    path = plots / "bench" / "bench.json"
    found = json.loads(path.read_text())
    rows = found["networks"]
    rows[0]["step"] |= {"seconds": 0.0123, "gflop": 4.56, "share_of_peak": 0.789}
    rows[0]["trained_images_per_second"] = {"8": 1234.0, "64": 99.0}
    found["dataloader"]["protocol"]["both"]["ratio"] = 7.77
    path.write_text(json.dumps(found))
    text = speed(plots)
    assert " | 4.56 | 12.3 | 79% | 1,234 (batches of 8) | " in text
    assert "runs 7.8 times as fast" in text
    path.unlink()
    with pytest.raises(UserError, match=r"run python bench\.py"):
        speed(plots)


def test_figures_are_drawn_again_from_a_run_s_files(run, fails, quick_run, tmp_path):
    folder = shutil.copytree(quick_run, tmp_path / "run")
    for path in folder.glob("*.png"):
        path.unlink()
    outcome = run("report.py", "--draw", folder)
    assert outcome.code == 0, outcome
    for path in quick_run.glob("*.png"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert (folder / "metrics.json").read_bytes() == (quick_run / "metrics.json").read_bytes()
    assert run("report.py", "--draw", folder, "--figure-format", "svg").code == 0
    text = (folder / "confusion_matrix.svg").read_text()
    assert "generated images: not a result" in text
    damaged = shutil.copytree(quick_run, tmp_path / "damaged")
    (damaged / "history.csv").write_text("epoch\n")
    assert f"--draw {damaged}: a result is damaged" in fails("report.py", "--draw", damaged)
    change(folder, dataset={"counts": {"train": 1, "val": 1, "test": 1}})
    assert "made from another data set than the one here" in fails("report.py", "--draw", folder)
    assert "does nothing without --draw" in fails("report.py", "--figure-format", "svg")


def test_ablation_of_randomisation(plots):
    path = plots / "ablation-robust" / "ablation.json"
    found = json.loads(path.read_text())
    left_out = next(row for row in found["variants"] if row["changes"] == {"unchanged": "dirt"})
    for kinds in left_out["corrupted"]:
        kinds |= {"bubbles": 0.1, "specks": 0.2, "noise": 0.3}
    path.write_text(json.dumps(found))
    lines = elsewhere_tables.ablation(plots).splitlines()
    (row,) = (line for line in lines if line.startswith(f"| {left_out['name']} |"))
    assert row.split(" | ")[3].startswith("20.00 ± 0.00 (")


def test_stages_are_added_up_to_classes(plots):
    text = stages_tables.stages(plots)
    run, best = (run_folder.read(plots / name) for name in ("cnn-stages", "cnn-best"))
    class_of = np.array([CLASS_NAMES.index(CLASS_OF[stage]) for stage in STAGES])
    added = run.probabilities @ np.eye(8)[class_of]
    accuracy = (added.argmax(2) == class_of[run.labels]).mean()
    assert f"Added up to the eight classes: accuracy {accuracy:.4f}, against " in text
    assert len(run.labels) < len(best.labels)
    wrong = run.probabilities.argmax(2) != run.labels
    line = [STAGES.index(stage) for stage in stages_tables.MATURATION]
    near = sum(
        ((run.labels == one) & (run.probabilities.argmax(2) == other)).sum()
        for a, b in itertools.pairwise(line)
        for one, other in ((a, b), (b, a))
    )
    assert f"{near / wrong.sum():.0%} of the errors are one stage off" in text
