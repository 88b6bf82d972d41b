"""What the tables say of the results that they are made from."""

import itertools
import json

import numpy as np
import pytest
from shared import ROOT
from sklearn.model_selection import KFold
from table_fixtures import photographs_of
from written import change, metrics_of

from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.data.photographs import CLASS_OF, STAGES
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import wilson_interval
from bloodcells.reporting.tables import batch_effect, reading, studies
from bloodcells.reporting.tables import release as release_tables
from bloodcells.reporting.tables import search as search_table
from bloodcells.reporting.tables import stages as stages_tables
from bloodcells.reporting.tables.paper import paper_details, paper_table
from bloodcells.reporting.tables.reading import older_commit
from bloodcells.reporting.tables.speed import speed
from bloodcells.tracking import provenance, run_folder


def test_comparison_counts_images(plots):
    folder = plots / "cnn-paper"
    saved = run_folder.read(folder)
    perfect = np.eye(8, dtype=np.float32)[saved.labels][None].repeat(2, 0)
    np.savez(folder / "predictions.npz", probabilities=perfect, labels=saved.labels)
    text = paper_details(plots)
    wrong = [(p.argmax(1) != saved.labels).sum() for p in saved.probabilities]
    assert f"{wrong[0]}:0, {wrong[1]}:0" in text
    right = (saved.probabilities.argmax(2) == saved.labels).mean(0)
    gain = 100 * (1 - right)
    half = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
    mean = gain.mean()
    assert f": {mean:+.2f} points [{mean - half:+.2f}, {mean + half:+.2f}] (mean over 2" in text


def test_the_leak_is_what_images_trained_on_gain(plots):
    folder = plots / "cnn-paper-as-published"
    saved = run_folder.read(folder)
    counts = saved.metrics["dataset"]["counts"]
    before, total = counts["train"] + counts["val"], sum(counts.values())
    (*_, (_, held_out)) = KFold(5, shuffle=True, random_state=0).split(np.zeros(total))
    unseen = held_out[held_out >= before] - before
    answers = (saved.labels + 1) % 8  # wrong, but for the images that it was not trained on
    answers[unseen] = saved.labels[unseen]
    probabilities = np.eye(8, dtype=np.float32)[answers][None]
    np.savez(folder / "predictions.npz", probabilities=probabilities, labels=saved.labels)
    text = paper_details(plots)
    (low, _), (_, high) = (
        wilson_interval(len(unseen), len(unseen)),
        wilson_interval(0, len(answers) - len(unseen)),
    )
    most = 100 * (np.hypot(1 - low, high) - 1)
    assert f"in points: CNN -100.0 [-100.0, {most:+.1f}]; baseline " in text


def test_card_shows_what_was_measured(plots):
    precision = {"precision": 0.12345, "recall": 0.5, "recall_low": 0.4, "recall_high": 0.6}
    metrics = metrics_of(plots / "cnn-robust")
    rows = metrics["test_per_class"]
    change(plots / "cnn-robust", test_per_class=[rows[0] | precision, *rows[1:]])
    assert f"| basophil | {rows[0]['support']} | 0.123 | 0.500 [0.400, 0.600] |" in (
        release_tables.results(plots).splitlines()
    )
    found = metrics_of(plots / "robustness")["rows"]
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
    assert row.endswith("| 100.0% | neutrophil 1.0 |")
    assert "Accuracy on the 4 images from photographs of other sizes than 360 x 363" in lines[-1]
    assert "`cnn-best` 1.000 [0.510, 1.000], against 0.989" in lines[-1]  # 1 of 23 of one class
    assert f"Accuracy {1 - 1 / len(labels):.4f}; " in lines[-1]
    assert "neighbours in maturation: 1.0000" in lines[-1]


def test_ladder_shows_both_views_and_the_models_together(plots):
    folder = plots / "cnn-best"
    values = {"mean": 0.98765, "std": 0.00123, "low": 0.98, "high": 0.99}
    metrics = metrics_of(folder)
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
        "0.9100 ± 0.0012 [0.980, 0.990]",
        "0.9877 ± 0.0012 [0.980, 0.990]",
        "0.9200 [0.980, 0.990]",
        "100",
        "50",
    ]
    assert "| `cnn-best` on train + validation | " in studies.ladder(plots)
    best = next(p for p in studies.ladder_points(plots) if p["name"] == "best")
    assert (best["train_seconds"], best["accuracy"]) == (100, 0.98765)
    assert (best["one_view"], best["interval"]) == (0.91, (0.98, 0.99))


def test_models_of_several_recipes_together(plots, monkeypatch):
    one, two = (run_folder.read(plots / name) for name in ("cnn-best", "cnn-robust"))
    mean = (one.probabilities[0] + two.probabilities[:2].sum(0)) / 3
    right = mean.argmax(1) == one.labels
    alike = plots / "cnn-robust-runs-2-train-and-validation" / "predictions.npz"
    with np.load(alike) as saved:
        arrays = dict(saved)
    arrays["probabilities"] = np.eye(8, dtype=np.float32)[arrays["labels"]][None].repeat(2, 0)
    np.savez(alike, **arrays)
    lines = studies.ladder(plots).splitlines()
    row, on_both = (line for line in lines if line.startswith("| 1 models of `cnn-best` and 2 mo"))
    assert f" | {right.mean():.4f} [" in row
    assert "`cnn-robust`, on train + validation | " in on_both
    assert " | 1.0000 [" in on_both
    before = one.probabilities.mean(0).argmax(1) == one.labels
    counts = f"{(right & ~before).sum()}:{(before & ~right).sum()}"
    assert f"(first : second): {counts} " in lines[-3]
    assert ", on train + validation: " in lines[-1]
    monkeypatch.setattr(studies, "MIXED", {"cnn-best": 3, "cnn-robust": 2})
    with pytest.raises(UserError, match="too few models"):
        studies.ladder(plots)


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
        (lambda p: change(p.parent, p.name, dataset={"synthetic": True}), "not a result"),
        (lambda p: change(p.parent, p.name, config={"epochs": 1}), "epochs is not 5, as the table"),
    ],
)
def test_unfit_ablation(plots, spoil, says):
    spoil(plots / "ablation" / "ablation.json")
    with pytest.raises(UserError, match=says):
        studies.ablation(plots)


def test_search_table_shows_what_was_measured(plots):
    folder = plots / "tuning"
    cells = metrics_of(folder)["cells"]
    for cell in cells:
        where = (cell["settings"][name] for name in ("lr", "batch_size", "epochs"))
        if tuple(where) == (0.001, 128, 50):
            cell["accuracy"] = [0.81, 0.83]
    change(folder, cells=cells)
    row = next(r for r in search_table.search(plots).splitlines() if r.startswith("| 0.001 | 128"))
    assert row.split(" | ")[3] == "0.820 ± 0.014 (2 of 5 folds)"
    best = metrics_of(folder)["best"]["accuracy"]
    few = [c["accuracy"] for c in cells if 0 < len(c["accuracy"]) < 5]
    needed = min((sum(best) - sum(values)) / (5 - len(values)) for values in few)
    assert f"it would have needed {needed:.3f} or more" in search_table.search(plots)
    assert row.endswith("| 0.915 at 50 epochs (best) |")
    change(folder, cells=cells[1:])
    with pytest.raises(UserError, match="some combinations are missing"):
        search_table.search(plots)


def test_trust_table_shows_what_was_measured(plots):
    found = metrics_of(plots / "release")
    change(plots / "release", dataset={"synthetic": True})
    with pytest.raises(UserError, match="not a result"):
        release_tables.trust(plots)
    found["views"]["8"]["after"]["nll"] = {"mean": 0.01234, "std": 0.001}
    (plots / "release" / "metrics.json").write_text(json.dumps(found))
    row = next(line for line in release_tables.trust(plots).splitlines() if "log loss" in line)
    assert row.endswith("→ 0.0123 ± 0.0010 |")
    (plots / "release" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"run python model_release\.py"):
        release_tables.trust(plots)


def test_rows_of_older_code_are_marked(plots, monkeypatch):
    monkeypatch.setattr(reading, "older_commit", older_commit)  # `plots` takes all for today's
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


def test_speed_table_shows_what_was_measured(plots):
    path = plots / "bench" / "bench.json"
    found = json.loads(path.read_text())
    rows = found["networks"]
    rows[0]["step"] |= {"seconds": 0.0123, "gflop": 4.56, "share_of_peak": 0.789}
    rows[0]["trained_images_per_second"] = {"8": 1234.0, "64": 99.0}
    found["dataloader"]["protocol"]["both"]["ratio"] = 7.77
    found["environment"] |= {"processor": "Intel(R) Xeon(R) Processor", "instructions": "AMX"}
    path.write_text(json.dumps(found))
    text = speed(plots)
    assert " | 4.56 | 12.3 | 79% | 1,234 (batches of 8) | " in text
    assert "runs 7.8 times as fast" in text
    assert "Machine: Intel Xeon (AMX), 2 threads" in text
    path.unlink()
    with pytest.raises(UserError, match=r"run make bench"):
        speed(plots)


def test_stages_are_added_up_to_classes(plots):
    text = stages_tables.stages(plots)
    run, best = (run_folder.read(plots / name) for name in ("cnn-stages", "cnn-best"))
    class_of = np.array([CLASS_NAMES.index(CLASS_OF[stage]) for stage in STAGES])
    added = run.probabilities @ np.eye(8)[class_of]
    accuracy = (added.argmax(2) == class_of[run.labels]).mean()
    assert f"Stages summed to classes: accuracy {accuracy:.4f}, against " in text
    assert len(run.labels) < len(best.labels)
    wrong = run.probabilities.argmax(2) != run.labels
    line = [STAGES.index(stage) for stage in stages_tables.MATURATION]
    near = sum(
        ((run.labels == one) & (run.probabilities.argmax(2) == other)).sum()
        for a, b in itertools.pairwise(line)
        for one, other in ((a, b), (b, a))
    )
    assert f"{near / wrong.sum():.0%} of the errors are one stage off" in text


def test_batch_effect_table(plots):
    path = plots / "batch-effect" / "metrics.json"
    found = json.loads(path.read_text())
    found["scores"]["gain"] = {"mean": 0.0123, "std": 0.004, "low": -0.002, "high": 0.03}
    found["scores"]["new_with"] = {"mean": 0.91, "std": 0.01, "low": 0.89, "high": 0.93}
    path.write_text(json.dumps(found))
    rows = batch_effect.batch_effect(plots).splitlines()
    (row,) = (row for row in rows if row.startswith("| `cnn-fast-60` |"))
    assert row.endswith("| 0.910 ± 0.010 [0.890, 0.930] | +1.2 ± 0.4 [-0.2, +3.0] |")
    assert row.count("|") == rows[0].count("|") == rows[1].count("|")
    path.unlink()
    with pytest.raises(UserError, match=r"run python batch_effect\.py --overwrite"):
        batch_effect.batch_effect(plots)
