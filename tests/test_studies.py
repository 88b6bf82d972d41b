"""The scripts that measure: the bench, and the ablation, which must not see the test split."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

import bench
from bloodcells.benchmarks import memory
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.training import checkpoint, loop

FEW = {"train": 300, "val": 200, "test": 100}  # in place of BloodMNIST's images
QUICK_RECIPE = Recipe(epochs=1, batch_size=128, lr=1e-3)


def test_bench(run, tmp_path, monkeypatch):
    recipe = bench.recipe
    for name, small in {
        "recipe": lambda *args: replace(recipe(*args), batch_size=8),
        "BATCHES": (2, 4),
        "USUAL_IMAGES": 256,
        "IMAGES": (64, 128),
        "PIXELS": (28, 64),
        "WIDTHS": ((4, 4, 8), (4, 8, 8)),
        "SCRIPTS": ("report.py",),
        "WORKERS": (1, 2),
        "TRIALS": 4,
        "NAP": 0.5,
        "PRESET_OF": {"Baseline": "baseline", "ConvNet": "cnn-paper", "CellNet": "cnn-fast-15"},
        "peak_memory": lambda: {28: memory.of_training(28, QUICK_RECIPE, FEW)},
    }.items():
        monkeypatch.setattr(f"bench.{name}", small)
    outcome = run("bench.py", "--synthetic", "--repeats", "1", "--output", tmp_path)
    assert outcome.code == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert all(found["peak_gflops"][name] > 0 for name in ("float32", "bfloat16"))
    by_name = {row["name"]: row for row in found["networks"]}
    assert by_name.keys() == {"Baseline", "ConvNet", "CellNet"}
    # multiply and add, forward and for the weights; the pixels need no gradient
    assert by_name["Baseline"]["step"]["gflop"] == pytest.approx(8 * 2352 * 8 * 4 / 1e9)
    assert by_name["Baseline"]["forward"]["gflop"] == pytest.approx(8 * 2352 * 8 * 2 / 1e9)
    for row in by_name.values():
        assert row["batch"] == 8
        # the backward pass is a difference of two times, which noise can turn below zero
        assert all(row[part]["share_of_peak"] > 0 for part in ("forward", "step"))
        assert row["backward"]["gflop"] > 0
        assert sum(row["operators"].values()) == pytest.approx(1)
        assert row["trained_images_per_second"].keys() == {"2", "4"}
    assert found["usual_way"]["batch"]["ratio"] > 0
    assert found["usual_way"]["protocol"]["images"] == 256
    for name in ("Baseline", "ConvNet", "both"):
        assert f"the paper's protocol, {name}, 256 images" in outcome.out
    assert [len(times) for times in found["growth"].values()] == [2, 2, 2]
    assert found["search_seconds_by_workers"]["1"] >= 4 * 0.5
    assert found["search_seconds_by_workers"]["2"] >= 2 * 0.5
    assert found["help_seconds"]["report.py"] > 0
    assert found["training_memory_mib_by_pixels"]["28"] > 100
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        *("network_speed", "operators", "growth")
    }


def test_ablation(run, tmp_path, monkeypatch):
    seen = []
    predict = loop.predict
    monkeypatch.setattr(
        loop, "predict", lambda m, x, *a, **k: seen.append(x) or predict(m, x, *a, **k)
    )
    flags = ["--synthetic", "--epochs", "2", "--replicates", "2", "--batch-size", "64"]
    outcome = run("ablation.py", *flags, "--only", "no-shift", "--output", tmp_path)
    assert outcome.code == 0
    found = json.loads((tmp_path / "ablation.json").read_text())
    whole, variant = found["variants"]
    assert (whole["name"], whole["changes"]) == ("whole recipe", {})
    assert (variant["name"], variant["changes"]) == ("no shift", {"shift": 0})
    assert found["config"]["shift"] > 0
    assert whole["change"] == [0, 0]
    changes = np.subtract(variant["accuracy"], whole["accuracy"])
    np.testing.assert_allclose(variant["change"], changes)
    assert changes.any()
    more_right = variant["mcnemar"]["only_first"] - variant["mcnemar"]["only_second"]
    assert more_right == pytest.approx(changes.sum() * 576 / 5, abs=1)  # images of a fold
    assert outcome.out.splitlines()[-2].startswith("| no shift | ")
    assert (tmp_path / "ablation.png").exists()
    test = bloodmnist.load(None, 28, synthetic=True).test.images
    assert seen
    assert not any((images[:].numpy() == test[0]).all((1, 2, 3)).any() for images in seen)


def test_ablation_ends_after_the_batch(run, tmp_path, monkeypatch):
    save = checkpoint.Keeper.save

    def save_then_ctrl_c(*args):
        save(*args)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(checkpoint.Keeper, "save", save_then_ctrl_c)
    flags = ["--synthetic", "--epochs", "2", "--replicates", "2", "--checkpoint-every", "9"]
    outcome = run("ablation.py", *flags, "--only", "no-shift", "--output", tmp_path)
    assert outcome.code == 130
    first, *_, last = outcome.err.strip().splitlines()
    assert first == "stopping after this batch; once more to stop at once"
    assert last.startswith("stopped; to go on: python ablation.py")
    kept = tmp_path / "checkpoint" / "whole-recipe-seed-0-fold-0.pt"
    assert len(torch.load(kept, weights_only=True)["history"]) == 1  # flushed at the stop


def test_ablation_refuses_what_it_cannot_tell(fails, run, tmp_path):
    flags = ["--synthetic", "--output", tmp_path]
    for protocol in ("as-published", "official"):
        line = fails("ablation.py", *flags, "--protocol", protocol)
        assert "only cross-validation leaves the test out" in line
    assert "but 2 folds" in fails("ablation.py", *flags, "--folds", "2", "--replicates", "3")
    quick = ["--epochs", "2", "--replicates", "2", "--shift", "0", "--only", "no-shift"]
    outcome = run("ablation.py", *flags, *quick)
    assert "no-shift: the recipe is so already" in outcome.out
    assert len(json.loads((tmp_path / "ablation.json").read_text())["variants"]) == 1
