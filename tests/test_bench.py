"""What the bench measures, made small."""

import json
import multiprocessing
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
import torch
import warm
from matplotlib.figure import Figure
from shared import ROOT

import bench
from bloodcells.benchmarks import all_reduce, dataloader, memory, search_scaling
from bloodcells.benchmarks.timing import process_of_its_own
from bloodcells.cli import arguments
from bloodcells.cli.recipe import Recipe
from bloodcells.cli.scripts import parse_bench
from bloodcells.data import bloodmnist
from bloodcells.errors import UserError
from bloodcells.reporting.figures import studies as figures
from bloodcells.tracking import provenance

FEW = {"train": 300, "val": 200, "test": 100}  # in place of BloodMNIST's images
NAP = 0.2  # seconds
QUICK_RECIPE = Recipe(epochs=1, batch_size=128, lr=1e-3)


def test_bench(run, tmp_path, monkeypatch):
    recipe_of = bench.recipe_of
    for name, small in {
        "recipe_of": lambda *args: replace(recipe_of(*args), batch_size=8),
        "BATCHES": (2, 4),
        "DATALOADER_IMAGES": 256,
        "IMAGES": (64, 128),
        "MAPPED": 200,
        "PIXELS": (28, 64),
        "WIDTHS": ((4, 4, 8), (4, 8, 8)),
        "SCRIPTS": ("report.py", "mine.py"),
        "WORKERS": (1, 2),
        "TRIALS": 4,
        "NAP": NAP,
        "PRESET_OF": {"Baseline": "baseline", "ConvNet": "cnn-paper", "CellNet": "cnn-fast-15"},
        "peak_memory": lambda: {
            28: memory.of_training(28, QUICK_RECIPE, bench.train_and_score, FEW)
        },
    }.items():
        monkeypatch.setattr(f"bench.{name}", small)
    monkeypatch.setattr("multiprocessing.get_context", lambda *_: warm.server)  # for spawn
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
        assert sum(row["operator_gflop"].values()) == pytest.approx(row["step"]["gflop"])
        assert row["operator_gflop"].keys() <= row["operators"].keys()
        assert row["trained_images_per_second"].keys() == {"2", "4"}
    assert found["dataloader"]["batch"]["ratio"] > 0
    assert found["dataloader"]["protocol"]["images"] == 256
    for name in ("Baseline", "ConvNet", "both"):
        assert f"the paper's protocol, {name}, 256 images" in outcome.out
    assert [len(times) for times in found["growth"].values()] == [2, 2, 2]
    assert found["search_seconds_by_workers"]["1"] >= 4 * NAP
    assert found["search_seconds_by_workers"]["2"] >= 2 * NAP
    assert 0 < found["averaging_seconds"] < 10
    assert found["help_seconds"].keys() == {"report.py"}  # the other one is not committed
    assert found["training_memory_mib_by_pixels"]["28"] > 100
    assert found["mapped_epoch"]["seconds"] > 0
    mapped = found["mapped_epoch"]
    assert 0 < mapped["mib_of_libraries"] < mapped["mib_above_the_array"] < 2000
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        *("network_speed", "operators", "growth")
    }


def test_a_figure_of_generated_images_still_says_what_it_shows(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: seen.append(figure))
    found = json.loads((ROOT / "plots/bench/bench.json").read_text())
    figures.operators(tmp_path / "a.png", found["networks"], "generated images")
    assert seen[0].get_suptitle() == "generated images"
    assert "black line" in seen[0].get_supxlabel()


def test_batches_of_large_images_are_small():
    assert [bench.most_images(size) for size in (28, 56, 224, 1000)] == [512, 128, 8, 1]
    cpu = torch.device("cpu")
    assert [bench.recipe_of("CellNet", cpu, size).batch_size for size in (28, 224)] == [64, 8]


def fails_elsewhere(*_):
    """In any process but the test's own."""
    if multiprocessing.parent_process():
        sys.exit(3)


def never_answers(*_):
    time.sleep(60)


def test_a_process_that_fails_is_told_at_once(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_context", lambda *_: warm.server)
    monkeypatch.setattr(all_reduce, "average", fails_elsewhere)
    with pytest.raises(UserError, match="ended with code 3"):
        all_reduce.seconds_of(2)
    monkeypatch.setattr(search_scaling, "work_at_once", fails_elsewhere)
    with pytest.raises(UserError, match="ended with code 3"):
        search_scaling.wall_seconds(2, 1, 0)

    def not_all_start(*_):
        raise threading.BrokenBarrierError

    monkeypatch.setattr(search_scaling, "work_at_once", not_all_start)
    with pytest.raises(UserError, match="did not start"):
        search_scaling.wall_seconds(1, 1, 0)
    monkeypatch.setattr(all_reduce, "average", never_answers)
    monkeypatch.setattr(all_reduce, "MOST_SECONDS", 1)
    with pytest.raises(UserError, match="do not answer"):
        all_reduce.seconds_of(1)


def test_an_edit_of_a_preset_that_is_timed_counts(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    monkeypatch.setattr(
        provenance, "committed_preset", lambda path: "before" if "cnn-best" in path else None
    )
    monkeypatch.setattr(arguments, "code_of", provenance.code_of)
    codes = [parse_bench(str(ROOT / "bench.py"), used).code for used in ([], ["cnn-best"])]
    assert [".config/cnn-best.toml" in code.edited for code in codes] == [False, True]


def test_processes_that_are_compared_have_as_many_threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)  # as --threads does
    try:
        monkeypatch.setattr("multiprocessing.get_context", lambda *_: warm.server)
        with process_of_its_own() as process:
            assert process.submit(torch.get_num_threads).result() == before + 1
    finally:
        torch.set_num_threads(before)


def test_batches_are_compared_past_the_warmup_of_a_recipe_that_focuses():
    recipe = Recipe(epochs=4, batch_size=64, focus=0.3, warmup=0.2, schedule="triangle")
    split = bloodmnist.load(synthetic=True).train
    found = dataloader.compare_batches(split, recipe, torch.device("cpu"), repeats=2)
    assert found["ratio"] > 0


def test_the_memory_of_what_does_not_fit_is_unknown(monkeypatch):
    class Lacking:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, *_):
            raise lacks.pop()

    lacks = [RuntimeError("shapes"), BrokenProcessPool(), MemoryError(), torch.OutOfMemoryError()]
    monkeypatch.setattr(memory, "process_of_its_own", Lacking)
    for _ in lacks[1:]:
        assert memory.of_training(28, QUICK_RECIPE, bench.train_and_score, FEW) is None
    with pytest.raises(RuntimeError, match="shapes"):
        memory.of_training(28, QUICK_RECIPE, bench.train_and_score, FEW)
