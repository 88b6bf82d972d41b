"""The README's own commands work, and what it points at is there."""

import json
import re
from collections import Counter

import pytest
from conftest import QUICK, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for block in BLOCKS
        for line in block.splitlines()
        if re.match(r"python \w+\.py", line) and "report.py" not in line
    }
)


def test_there_are_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs_on_generated_images(run, tmp_path, command):
    script, *flags = command.split()[1:]
    quick = ["--synthetic"] if script == "data_visualization.py" else QUICK
    if "cnn-" in command:  # official protocol, two epochs before focus sets in
        quick = ["--synthetic", "--runs", "2", "--epochs", "2", "--widths", "4", "8", "8"]
    elif script == "ablation.py":
        quick = ["--synthetic", "--epochs", "2", "--replicates", "2", "--batch-size", "256"]
    outcome = run(script, *flags, *quick, "--output", tmp_path)
    assert outcome.code == 0
    assert outcome.out.endswith(f"wrote {tmp_path}\n")


def test_audit_sentences_are_what_the_audit_found():
    text = " ".join(README.split())
    found = json.loads((ROOT / "plots/data/audit.json").read_text())
    summary = found["summary"]
    with_test = [g for g in found["exact_duplicate_groups"] if "test" in [r["split"] for r in g]]
    repeats = Counter(r["split"] for group in with_test for r in group)
    for sentence in (
        f"{summary['exact_duplicate_groups']} pairs of images are equal byte for byte, and "
        f"{summary['exact_duplicate_groups_across_splits']} of them cross the splits: "
        f"{repeats['train']} test images repeat a training image and {repeats['val']} a validation",
        f"{summary['near_duplicate_pairs']} more pairs differ by at most 12 grey levels",
        f"In all, {summary['test_images_with_a_twin_elsewhere']} of 3,421 test images have a twin",
    ):
        assert sentence in text
    assert summary["conflicting_groups"] == 1
    assert summary["test_images_with_a_twin_elsewhere"] / 3421 < 0.003


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(BLOCKS), re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_links_and_pictures_are_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
