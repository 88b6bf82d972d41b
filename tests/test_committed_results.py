"""The results in plots/ and weights/: whole, of committed code, and those of each other."""

import json

import pytest
from conftest import OLDER, ROOT

from bloodcells.data import corruptions
from bloodcells.reporting.tables import common, studies
from bloodcells.reporting.tables import elsewhere as elsewhere_tables
from bloodcells.reporting.tables import release as release_tables
from bloodcells.tracking import run_folder
from bloodcells.training import domain_randomisation


def test_no_corruption_is_called_new_that_was_trained_on():
    assert list(release_tables.TRAINED_ON) == list(corruptions.CORRUPTIONS)
    changes = {change.__name__: group for change, _, group in domain_randomisation.CHANGES}
    assert set(release_tables.TRAINED_ON.values()) - {None} <= set(changes)
    for group, kinds in elsewhere_tables.GROUPS.items():
        assert all(changes[release_tables.TRAINED_ON[kind]] == group for kind in kinds)


def test_studies_are_of_the_runs_that_are_there():
    """The committed ones: else the card would show figures of another network."""
    for name, release in (("cnn-best", "release-best"), ("cnn-robust", "release")):
        card = json.loads((ROOT / "weights" / f"{name}.json").read_text())
        run = json.loads((ROOT / "plots" / name / "metrics.json").read_text())
        assert card["training"]["config"] == run["config"]
        assert card["training"]["git_commit"] == run["environment"]["git_commit"]
        for study in (release, "robustness"):
            found = json.loads((ROOT / "plots" / study / "metrics.json").read_text())
            assert found["runs"][name].items() <= run["config"].items(), study  # some are newer
    explained = json.loads((ROOT / "plots" / "explain" / "metrics.json").read_text())
    assert explained["released_md5"] == card["md5"]


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
    for path in sorted((ROOT / "plots").glob("*/*.json")):
        found = json.loads(path.read_text())
        assert not found.get("code", {}).get("edited"), path
        if common.older_commit(found):
            older.add(f"{path.parent.name}/{path.name}")
    assert older == OLDER
