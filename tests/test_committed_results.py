"""The results in plots/ and weights/: whole, of committed code, and those of each other."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from disk_faults import EVERY
from PIL import Image
from shared import OLDER, ROOT
from written import complaints, metrics_of

import architecture
import models
from bloodcells.data import corruptions
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.data.photographs import STAGES
from bloodcells.inference.classifier import md5_of
from bloodcells.reporting.tables import elsewhere as elsewhere_tables
from bloodcells.reporting.tables import reading, studies
from bloodcells.reporting.tables import release as release_tables
from bloodcells.tracking import run_folder
from bloodcells.tracking.provenance import RESULTS


def test_no_corruption_is_called_new_that_was_trained_on():
    assert list(release_tables.TRAINED_ON) == list(corruptions.CORRUPTIONS)
    assert set(release_tables.TRAINED_ON.values()) - {None} <= set(elsewhere_tables.GROUP_OF)


RELEASED = {"cnn-robust": "release", "cnn-best": "release-best", "cnn-stages": "release-stages"}


def card_of(name):
    return json.loads((ROOT / "weights" / f"{name}.json").read_text(encoding="utf-8"))


def test_studies_are_of_the_runs_that_are_there():
    """The committed ones: else the card would show figures of another network."""
    robustness = metrics_of(ROOT / "plots" / "robustness")["runs"]
    assert robustness.keys() > {"cnn-robust", "cnn-best"}
    for name, release in RELEASED.items():
        card = card_of(name)
        run = metrics_of(ROOT / "plots" / name)
        assert card["training"]["config"] == run["config"]
        assert card["training"]["git_commit"] == run["environment"]["git_commit"]
        for used in (metrics_of(ROOT / "plots" / release)["runs"][name], robustness.get(name, {})):
            assert used.items() <= run["config"].items(), name  # some are newer
    explained = metrics_of(ROOT / "plots" / "explain")
    assert explained["released_md5"] == card_of("cnn-robust")["md5"]


def test_committed_readme_is_what_the_committed_results_say(run):
    outcome = run("report.py", "--check")
    assert outcome.code == 0, "run python report.py and commit"


@pytest.mark.parametrize(
    "name",
    [
        *("baseline", "baseline-as-published", "cnn-paper", "cnn-paper-as-published"),
        *studies.LADDER[1:],
    ],
)
def test_committed_runs_are_real_and_whole(name):
    saved = run_folder.read(ROOT / "plots" / name)
    counts = saved.metrics["dataset"]["counts"]
    assert counts == {"train": 11959, "val": 1712, "test": 3421}
    models = 1 if name.endswith("as-published") else 5
    assert saved.probabilities.shape == (models, 3421, 8)
    accuracy = (saved.probabilities.argmax(2) == saved.labels).mean()
    assert saved.metrics["test"]["accuracy"]["mean"] == pytest.approx(accuracy, abs=1e-9)


def test_committed_results_are_of_committed_code():
    """Lists the rows that the tables mark, and refuses results of edited code."""
    older = set()
    for path in [path for name in RESULTS for path in (ROOT / "plots").glob(f"*/{name}")]:
        found = json.loads(path.read_text())
        assert not found["code"]["edited"], path
        if reading.older_commit(found):
            older.add(f"{path.parent.name}/{path.name}")
    assert older == OLDER


def test_released_weights_answer_as_the_model_that_was_scored(run, real_dataset, tmp_path):
    """Every eighth test image by way of predict.py, with float16 weights; all with FAULTS=all."""
    every = slice(None, None, 1 if EVERY else 8)
    np.save(tmp_path / "cells.npy", real_dataset.test.images[every])
    outcome = run("predict.py", tmp_path / "cells.npy", "--format", "json")
    assert outcome.code == 0
    answers = [CLASS_NAMES.index(row["label"]) for row in json.loads(outcome.out)]
    seed = card_of("cnn-robust")["training"]["seed"]
    with np.load(ROOT / "plots" / "cnn-robust" / "predictions.npz") as saved:
        scored = saved["probabilities_one_view"][seed].argmax(1)[every]
    assert np.sum(answers != scored) <= 0.005 * len(answers)


def test_the_released_card_has_the_data_set_s_class_frequencies(real_dataset):
    counts = real_dataset.train.class_counts()
    assert card_of("cnn-robust")["frequencies"] == pytest.approx((counts / 11_959).tolist())


def test_one_of_the_eight_examples_is_misread(run):
    """As README.md says, and docs/use.md."""
    rows = json.loads(run("predict.py", ROOT / "docs" / "examples", "--format", "json").out)
    found = {Path(row["path"]).stem.replace("-", " "): row["label"] for row in rows}
    assert len(found) == 8
    assert {k: v for k, v in found.items() if k != v} == {"neutrophil": "monocyte"}


def test_released_weights_are_right_about_enlarged_cells(run, real_dataset, tmp_path):
    """As MedMNIST's files in 64 pixels are; a cell framed by its nucleus would lose its size."""
    cells = real_dataset.val.rows(np.arange(0, len(real_dataset.val), 1 if EVERY else 4))
    enlarged = [Image.fromarray(image).resize((64, 64)) for image in cells.images]
    np.save(tmp_path / "cells.npy", np.stack(enlarged))
    outcome = run("predict.py", tmp_path / "cells.npy", "--format", "csv")
    answers = [row["label"] for row in csv.DictReader(outcome.out.splitlines())]
    right = np.array(answers) == np.array(CLASS_NAMES)[cells.labels]
    recall = [right[cells.labels == label].mean() for label in range(len(CLASS_NAMES))]
    assert min(recall) > 0.85
    assert outcome.code == 0


@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_are_small_and_match_their_card(name):
    weights = ROOT / "weights" / f"{name}.safetensors"
    assert weights.stat().st_size < 3e6
    card = card_of(name)
    assert card["md5"] == md5_of(weights.read_bytes())
    assert card["classes"] == list(STAGES if name == "cnn-stages" else CLASS_NAMES)
    assert card["training"]["dataset"]["synthetic"] is False


def test_committed_drawing_is_that_of_the_code():
    found = metrics_of(ROOT / "plots" / "architecture")
    for name in models.MODELS:
        layers, _ = architecture.trace(models.build(name, 28), 28)
        assert found["networks"][name] == json.loads(json.dumps([vars(x) for x in layers]))


COMMITTED = sorted((ROOT / "plots").glob("*/metrics.json"))


def test_committed_metrics_are_as_the_schema_says():
    assert len(COMMITTED) >= 12
    assert {path.parent.name: complaints(path) for path in COMMITTED if complaints(path)} == {}


def words_of(document):
    return " ".join((ROOT / document).read_text(encoding="utf-8").split())


def test_audit_sentences_are_what_the_audit_found():
    text = words_of("docs/data.md")
    found = json.loads((ROOT / "plots/data/audit.json").read_text())
    summary = found["summary"]
    pairs = Counter(
        " and ".join(row["split"] for row in group) for group in found["exact_duplicate_groups"]
    )
    for sentence in (
        f"{summary['exact_duplicate_groups']} pairs of images are equal byte for byte, and "
        f"{summary['exact_duplicate_groups_across_splits']} of them cross the splits: "
        f"{pairs['train and test']} between training and test, {pairs['train and val']} between "
        f"training and validation, {pairs['val and test']} between validation and test",
        f"{summary['near_duplicate_pairs']} more pairs differ by at most 12 grey levels",
        f"In all, {summary['test_images_with_a_twin_elsewhere']} of 3,421 test images equal or",
    ):
        assert sentence in text
    assert summary["conflicting_groups"] == 1
    assert summary["test_images_with_a_twin_elsewhere"] / 3421 < 0.003


def test_suspect_labels_are_as_many_as_the_card_says():
    text = words_of("MODEL_CARD.md")
    found = metrics_of(ROOT / "plots" / "explain")
    assert f"probabilities, suspects {len(found['suspect_labels']['rows'])} of these" in text
    of_test = len(found["suspect_labels_of_test"]["rows"])
    assert f"{of_test} suspect labels in the test split" in text


def test_the_fit_to_a_laboratory_is_of_the_released_weights():
    found = metrics_of(ROOT / "plots" / "finetune")
    card = json.loads((ROOT / "weights" / "cnn-robust.json").read_text())
    assert found["weights_md5"] == card["md5"]
    before, after = (f"{found[key]['mean']:.2f}" for key in ("released", "fine_tuned"))
    sentence = f"Fitted to labels (`finetune.py`), one model rises from {before} to {after}"
    assert sentence in words_of("README.md")


def test_sentences_on_other_laboratories_are_what_the_release_found():
    found = metrics_of(ROOT / "plots" / "release")
    there = found["elsewhere"]["views"]["8"]
    mean = {
        name: f"{part['mean']:.2f}"
        for name, part in {
            "framed": found["framed"]["balanced_accuracy"],
            "all": there["balanced_accuracy"],
            "adapted": there["adapted"],
            "given": there["given_classes"]["balanced_accuracy"],
        }.items()
    }
    taken = {
        name: f"{there['answers'][name]['immature granulocyte']['mean']:.0%}".replace("%", " %")
        for name in ("monocyte", "lymphocyte")
    }
    readme, guide = words_of("README.md"), words_of("docs/use.md")
    assert f"own test images, mean recall is then {mean['framed']} instead of 0.98" in readme
    assert (
        f"{mean['all']} with eight views, with `--adapt` {mean['adapted']}, with `--classes "
        f"normal-differential` {mean['given']} (five models)" in readme
    )
    assert (
        f"{taken['monocyte']} of the monocytes and {taken['lymphocyte']} of the lymphocytes were "
        "counted as immature granulocytes" in guide
    )
    coverage = [
        part["sets"]["0.95"]["coverage_by_class"]["mean"][CLASS_NAMES.index("monocyte")]
        for part in found["views"].values()
    ]
    low, high = (100 * pick(coverage) for pick in (min, max))
    assert f"for monocytes, coverage is {low:.0f} to {high:.0f} %" in guide
