"""report.py --compare: two finished experiments side by side, as text and as a page."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import warm
from shared import ROOT
from written import change, fetches_nothing, metrics_of

from bloodcells.reporting.tables import studies
from bloodcells.reporting.tables.compare import (
    ModelKey,
    compare_runs,
    differences,
    paired,
    paired_tests,
    pairing,
    recalls,
    shown_names,
)
from bloodcells.tracking import run_folder


@pytest.fixture(scope="module")
def longer_run(tmp_path_factory, run_once):
    """A run of two epochs, and of three folds."""
    folder = tmp_path_factory.mktemp("runs") / "longer"
    flags = ("--synthetic", "--folds", "3", "--epochs", "2", "--device", "cpu")
    run_once("model_baseline.py", *flags, "--output", folder)
    return folder


@pytest.mark.usefixtures("drawn_figures")
def test_page_of_two_experiments(run, quick_run, longer_run, tmp_path):
    flags = ("--compare", quick_run, longer_run, "--plots", tmp_path)
    outcome = run("report.py", *flags)
    assert outcome.code == 0, outcome
    assert "epochs: 1 | 2" in outcome.out
    text = (tmp_path / "comparison.html").read_text()
    assert "<li>epochs: 1 | 2</li>" in text
    assert text.count("data:image/png;base64,") == 2  # the curves, and the images
    assert fetches_nothing(text)
    first, other = (run_folder.read(folder) for folder in (quick_run, longer_run))
    assert "by pair of the first 2 models" in outcome.out  # folds of two and of three
    for number in (0, 1):
        models = [part.probabilities[number].argmax(1) == first.labels for part in (first, other)]
        won, lost = (np.sum(a & ~b) for a, b in (models, models[::-1]))
        assert f"<td>{number + 1}</td><td>{won}</td><td>{lost}</td>" in text
        assert f"  {won} : {lost}, p = " in outcome.out
    for name, before, after in recalls(first, other):
        cells = f"<td>{name}</td><td>{before:.3f}</td><td>{after:.3f}</td><td>{after - before:+.3f}"
        assert cells in text
        if round(before, 3) != round(after, 3):
            assert f"  {name:20} {before:.3f} -> {after:.3f}" in outcome.out


@pytest.mark.parametrize("processes", [1, 2])
def test_code_that_neither_uses_is_no_difference(quick_run, processes):
    first, other = run_folder.read(quick_run), run_folder.read(quick_run)
    other.metrics["code"]["files"]["bloodcells/training/distributed.py"] = "0" * 12
    other.metrics["environment"]["processes"] = processes
    used = ["code: bloodcells/training/distributed.py"] if processes > 1 else []
    assert differences([first, other]) == used


def test_more_seeds_on_one_side():
    seeds = [ModelKey(seed, None, None) for seed in range(5)]
    pairs, words = pairing(seeds[3:], seeds)
    assert pairs == [(0, 3), (1, 4)]
    assert words == "by the 2 pairs of models with the same seed and fold"


@pytest.mark.usefixtures("drawn_figures")
def test_data_that_is_not_at_hand(run, quick_run, tmp_path):
    copies = tmp_path / "one", tmp_path / "two"
    for copy in copies:
        shutil.copytree(quick_run, copy)
        change(copy, dataset={"md5": "0" * 32})
    outcome = run("report.py", "--compare", *copies, "--plots", tmp_path)
    assert outcome.code == 0, outcome
    assert "has no picture of the images: " in outcome.out
    text = (tmp_path / "comparison.html").read_text()
    assert text.count("data:image/png;base64,") == 1
    assert "<li>neither settings nor code</li>" in text


def test_nan_probabilities_are_refused(fails, quick_run, tmp_path):
    copy = Path(shutil.copytree(quick_run, tmp_path / "copy"))
    with np.load(copy / "predictions.npz") as saved:
        arrays = dict(saved)
    np.savez(
        copy / "predictions.npz", **arrays | {"probabilities": arrays["probabilities"] * np.nan}
    )
    line = fails("report.py", "--compare", copy, quick_run, "--plots", tmp_path)
    assert "predictions.npz holds no probabilities" in line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_study_is_no_training(fails, quick_run):
    line = fails("report.py", "--compare", quick_run, ROOT / "plots" / "robustness")
    assert line.endswith("robustness: of robustness.py, no training experiment")


def test_a_full_disk_is_no_damage(quick_run, tmp_path):
    shutil.copytree(quick_run, tmp_path / "copy")
    command = ("report.py", "--plots", tmp_path, "--compare", quick_run, tmp_path / "copy")
    process = warm.start(*command, out="/dev/full", err=tmp_path / "err")
    assert warm.ended(process) == 2
    assert "No space left on device; make room" in (tmp_path / "err").read_text()


def test_damaged_history(fails, quick_run, tmp_path):
    copy = Path(shutil.copytree(quick_run, tmp_path / "copy"))
    (copy / "history.csv").write_text("epoch,lr\n1,fast\n")
    line = fails("report.py", "--compare", copy, quick_run, "--plots", tmp_path)
    assert "history.csv: cannot be read" in line
    metrics = metrics_of(copy)
    del metrics["test_per_class"]
    (copy / "metrics.json").write_text(json.dumps(metrics))
    line = fails("report.py", "--compare", copy, quick_run, "--plots", tmp_path)
    assert "--compare: a result is damaged, make it anew: it lacks 'test_per_class'" in line
    assert (
        "the code that shows them is wrong (bloodcells/reporting/tables/compare.py, line " in line
    )
    line = fails("report.py", "--compare", quick_run, quick_run, "--plots", tmp_path)
    assert "several folders named" in line


def test_settings_that_are_no_text(run, quick_run, tmp_path):
    copy = Path(shutil.copytree(quick_run, tmp_path / "copy"))
    change(copy, config={"lr": "\ud800"})
    outcome = run("report.py", "--compare", copy, quick_run, "--plots", tmp_path)
    assert outcome.code == 0, outcome
    assert "lr: \\ud800 | 0.001" in outcome.out


def test_only_models_that_were_scored_are_paired():
    honest, leaking = (
        run_folder.read(ROOT / "plots" / name) for name in ("cnn-paper", "cnn-paper-as-published")
    )
    of, tests, gained = paired_tests(honest, leaking, "test")
    assert of == "one model with each of the other experiment"  # fold 4 of other folds is no pair
    each, (scored,) = (run.probabilities.argmax(2) == run.labels for run in (honest, leaking))
    assert [test["only_first"] for test in tests] == [(one & ~scored).sum() for one in each]
    gains = 100 * (scored.mean() - each.mean(1))
    assert (gained.mean, gained.std) == pytest.approx((gains.mean(), gains.std(ddof=1)))
    assert gained.low < gained.mean < gained.high


def test_held_out_images_that_all_models_share_are_paired_for_choosing():
    best, fast = (run_folder.read(ROOT / "plots" / name) for name in ("cnn-best", "cnn-fast-60"))
    with (
        np.load(best.folder / "predictions.npz") as one,
        np.load(fast.folder / "predictions.npz") as two,
    ):
        right = [
            saved["val_probabilities"].argmax(2) == saved["val_labels"] for saved in (one, two)
        ]
    lines = compare_runs([best, fast]).splitlines()
    at = lines.index("on the same held-out images, for choosing, by pair of models")
    gains = 100 * (right[1].mean(1) - right[0].mean(1))  # of the pairs
    assert lines[at + 1].startswith(f"  cnn-fast-60 against cnn-best: {gains.mean():+.2f} points [")
    assert lines[at + 1].endswith(f"± {gains.std(ddof=1):.2f} over pairs of models")
    assert lines[at + 2] == "  only cnn-best : only cnn-fast-60 right"
    for line, ours, theirs in zip(lines[at + 3 :], *right, strict=False):
        assert line.startswith(f"  {np.sum(ours & ~theirs)} : {np.sum(theirs & ~ours)}, p = ")
    after = "on the same test images, for reporting, by pair of models"
    assert lines.index(after) == at + 8


def test_what_folds_gain_has_a_spread_over_them(quick_run, tmp_path):
    first, other = (run_folder.read(quick_run) for _ in range(2))
    for row, gained in zip(other.metrics["runs"], (0.01, -0.03), strict=True):
        row["val"]["accuracy"] += gained
    (text,) = [line for line in paired(first, other, ("a", "b")) if "b against a: +0.00" in line][
        :1
    ]
    assert text.endswith(" over images, ± 2.83 over pairs of models")


@pytest.mark.usefixtures("drawn_figures")
def test_comparison_of_generated_images_says_so(run, quick_run, longer_run, tmp_path):
    outcome = run("report.py", "--compare", quick_run, longer_run, "--plots", tmp_path)
    assert "\nNOTE generated images: not a result.\n" in outcome.out
    page = (tmp_path / "comparison.html").read_text()
    assert "<strong>generated images: not a result.</strong>" in page
    assert "images that only one of quick and longer classifies correctly; data: test" in page


def test_images_that_folds_hold_out_are_paired_for_choosing(quick_run, longer_run, tmp_path):
    first = run_folder.read(quick_run)
    (labels, probabilities), counts = first.held_out, first.metrics["dataset"]["counts"]
    assert probabilities.shape == (1, counts["train"] + counts["val"], 8)
    accuracies = [row["val"]["accuracy"] for row in first.metrics["runs"]]
    right = probabilities[0].argmax(1) == labels
    assert right.mean() == pytest.approx(np.mean(accuracies))  # its two folds are equally large
    copy = Path(shutil.copytree(quick_run, tmp_path / "copy"))
    with np.load(copy / "predictions.npz") as saved:
        perfect = np.eye(8, dtype=np.float32)[labels][None]
        np.savez(copy / "predictions.npz", **{**saved, "val_probabilities": perfect})
    lines = compare_runs([first, run_folder.read(copy)]).splitlines()
    words = "for choosing, each image by the model of the fold that holds it out"
    at = lines.index(f"on the same held-out images, {words}")
    assert f": {100 * (1 - right.mean()):+.2f} points [" in lines[at + 1]
    assert lines[at + 3].startswith(f"  0 : {np.sum(~right)}, p = ")
    text = compare_runs([first, run_folder.read(longer_run)])  # other folds
    assert "\nheld-out images, for choosing, cannot be paired: they are other images" in text
    plots = ROOT / "plots"
    published = run_folder.read(plots / "cnn-paper-as-published")
    both = [published, replace(published, folder=plots / "other")]
    assert "--protocol as-published leaves none that all models hold out" in compare_runs(both)
    text = compare_runs([run_folder.read(plots / "cnn-paper"), published])
    assert "the protocols are cross-validation and as-published" in text


def test_long_names_are_written_once(quick_run, tmp_path):
    first = run_folder.read(quick_run)
    other = replace(first, folder=tmp_path / ("cnn-paper" + "-edited" * 10))
    text = compare_runs([first, other])
    assert text.count(other.folder.name) == 1
    assert f"\nA: {quick_run.name} " in text
    assert f"\nB: {other.folder.name} " in text
    assert "\n  B against A: +0.00 points" in text


def test_p_values_of_many_comparisons():
    assert studies.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert studies.holm([0.9, 0.6]) == [1, 1]


@pytest.mark.usefixtures("drawn_figures")
def test_each_other_experiment_is_compared_with_the_first(run, quick_run, longer_run, tmp_path):
    again = shutil.copytree(quick_run, tmp_path / "again")
    outcome = run("report.py", "--compare", quick_run, longer_run, again, "--plots", tmp_path)
    assert "epochs: 1 | 2 | 1" in outcome.out
    text = (tmp_path / "comparison.html").read_text()
    for name in ("longer", "again"):
        assert f"{name} against quick: " in outcome.out
        assert f"{name} against quick: " in text


@pytest.mark.parametrize(("count", "first"), [(26, "A"), (27, "a-long-name-of-an-experiment-0")])
def test_many_experiments_with_long_names(count, first):
    folders = [Path(f"a-long-name-of-an-experiment-{number}") for number in range(count)]
    names = shown_names([SimpleNamespace(folder=folder) for folder in folders])
    assert list(names) == folders
    assert names[folders[0]] == first
