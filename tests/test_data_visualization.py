"""data_visualization.py on generated images: figures, counts and the audit."""

import csv
import json


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
