"""data_visualization.py on generated images: figures, counts and the audit."""

import csv
import json
from argparse import Namespace

from shared import ROOT

import data_visualization
from bloodcells.data.photographs import read_table


def test_data_visualization(run, tmp_path):
    outcome = run("data_visualization.py", "--synthetic", "--output", tmp_path, "--montage", "2")
    assert outcome.code == 0
    assert "all classes" in outcome.out
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["exact_duplicate_groups"] == audit["conflicting_groups"] == []
    assert audit["dataset"]["synthetic"] is True
    assert {path.name for path in tmp_path.iterdir()} == {
        "audit.json",
        "label_counts.csv",
        "montage_2x2.png",
        "label_distribution.png",
        "split_distribution.png",
        "class_examples.png",
        "mean_images.png",
        "duplicates.png",
    }
    with (tmp_path / "label_counts.csv").open() as file:
        assert list(csv.reader(file))[-1] == ["all classes", "480", "96", "192", "768"]


def test_other_montages_of_the_last_time_are_deleted(run, tmp_path):
    for side in ("1", "2"):
        flags = ["--synthetic", "--montage", side, "--examples", "1", "--output", tmp_path]
        assert run("data_visualization.py", *flags).code == 0
    assert [path.name for path in tmp_path.glob("montage_*")] == ["montage_2x2.png"]


def test_counts_of_photographs_are_the_committed_ones():
    table, folder = read_table(), ROOT / "plots" / "data"
    rows = [list(map(str, row)) for row in data_visualization.stage_counts(table)]
    with (folder / "stage_counts.csv").open() as file:
        assert rows == list(csv.reader(file))
    audit = json.loads((folder / "audit.json").read_text())
    assert data_visualization.size_counts(table) == audit["photograph_sizes"]


def test_stages_and_batches_of_official_images_are_drawn(real_dataset, tmp_path):
    args = Namespace(figure_format="png", examples=2)
    data_visualization.draw_stages(tmp_path, args, real_dataset, read_table())
    data_visualization.draw_batches(tmp_path, args, real_dataset)
    assert {path.stem for path in tmp_path.iterdir()} == {
        "stage_examples",
        "stage_distribution",
        "batch_examples",
    }
