"""A folder belongs to one experiment: what is refused, what begins anew, what goes on."""

import json
import shutil
from pathlib import Path

import filelock
import pytest
from interrupted_runs import SMALL, same
from shared import QUICK
from written import change, metrics_of

from bloodcells.training import augmentation

pytestmark = pytest.mark.usefixtures("no_figures")


def test_only_what_there_is(fails, tmp_path):
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed", 7)
    assert "--only-seed 7: no such seed among seed-0" in line
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--only-fold", 0)
    assert "--only-fold 0: no such fold among seed-0" in line


def test_finished_run_is_not_overwritten(fails, run, whole):
    before = (whole / "metrics.json").read_bytes()
    line = fails("model_cnn.py", *SMALL, "--output", whole)
    assert "it holds a finished experiment; pass --overwrite" in line
    outcome = run("model_cnn.py", *SMALL, "--output", whole, "--resume")
    assert (outcome.code, "finished already" in outcome.out) == (0, True)
    line = fails("model_cnn.py", *SMALL, "--output", whole, "--resume", "--save-weights")
    assert "save_weights False there, True now" in line  # the models are gone
    assert (whole / "metrics.json").read_bytes() == before


def test_unfinished_run_is_not_begun_anew_by_chance(fails, run, whole, stopped, tmp_path):
    stopped(tmp_path, 2)
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path)
    assert "it holds an unfinished experiment; pass --resume" in line
    outcome = run("model_cnn.py", *SMALL, "--output", tmp_path, "--overwrite")
    assert outcome.out.count(" epoch ") == 6
    same(whole, tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--lr", 0.01), "lr 0.005 there, 0.01 now"),
        (("--widths", 4, 8, 8), "different network; widths [4, 4, 8] there, [4, 8, 8] now"),
        (("--seed", 3), "seed 0 there, 3 now"),
    ],
)
def test_resuming_something_else(fails, stopped, tmp_path, flags, said):
    stopped(tmp_path, 1)
    line = fails("model_cnn.py", *SMALL, *flags, "--output", tmp_path, "--resume")
    assert said in line


def test_resuming_with_other_code_or_data(fails, stopped, tmp_path):
    stopped(tmp_path, 1)
    path = tmp_path / "checkpoint" / "identity.json"
    identity = json.loads(path.read_text())
    code = {**identity["code"], "model_cnn.py": "x", "models.py": "y"}
    for key, other, said in (
        ("code", code, "code: model_cnn.py, models.py"),
        ("data file", {}, "data file"),
        ("torch version", "1.0", "torch version 1.0 there"),
    ):
        path.write_text(json.dumps({**identity, key: other}))
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
        assert f"holds another experiment (different {said}" in line
        assert "use its settings with this --output" in line
        assert "pass --overwrite to start again" in line


def test_what_failed_before_the_first_checkpoint_is_not_in_the_way(run, whole, tmp_path):
    failed = json.dumps({"code": {"model_cnn.py": "with a mistake"}})
    for number, flags in enumerate(((), ("--only-seed", 0))):
        folder = tmp_path / str(number) / "checkpoint"
        folder.mkdir(parents=True)
        (folder / "identity.json").write_text(failed)
        (folder / "seed-0.lock").touch()
        assert run("model_cnn.py", *SMALL, "--output", folder.parent, *flags).code == 0
    same(whole, tmp_path / "0")


def test_a_process_before_its_first_checkpoint_is_left_alone(fails, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "identity.json").write_text(json.dumps({"code": {"model_cnn.py": "other"}}))
    with filelock.FileLock(folder / "seed-1.lock"):
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path)
        assert "another process is at work there" in line
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--only-seed", 0)
        assert "holds another experiment (different code: " in line
        # with --only-seed, --overwrite is refused
        assert "once none is at work, delete the folder to start again" in line


def test_a_finished_experiment_of_other_code(fails, whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")
    found = metrics_of(copy)
    found["code"]["files"]["model_cnn.py"] = "other"
    (copy / "metrics.json").write_text(json.dumps(found))
    line = fails("model_cnn.py", *SMALL, "--output", copy)
    assert "holds a finished experiment of other code (model_cnn.py)" in line
    assert "another --output to keep both, for report.py --compare" in line


def test_two_processes_on_one_folder(fails, run, stopped, tmp_path):
    stopped(tmp_path, 1)
    with filelock.FileLock(tmp_path / "checkpoint" / "seed-1.lock"):
        line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert "another process is at work there" in line
    assert run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume").code == 0


def test_a_finished_run_is_not_resumed_with_other_settings(fails, whole):
    line = fails("model_cnn.py", *SMALL, "--lr", 0.01, "--output", whole, "--resume")
    assert "different lr 0.005 there, 0.01 now" in line


@pytest.mark.parametrize("flag", [("--resume",), ("--only-seed", 0), ("--only-fold", 0)])
def test_overwriting_and_resuming_at_once(fails, tmp_path, flag):
    """Refused before anything is loaded or made."""
    flags = ("--overwrite", *flag, "--data-root", tmp_path / "none", "--output", tmp_path / "run")
    assert "--overwrite: not allowed with --resume" in fails("model_cnn.py", *flags)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_folder_that_leads_elsewhere(fails, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("three years")
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint").symlink_to(theirs)
    for flags in ((), ("--overwrite",), ("--resume",)):
        line = fails("model_cnn.py", *SMALL, "--output", run, *flags)
        assert "its folder checkpoint/ is a link" in line
    assert [path.name for path in theirs.iterdir()] == ["thesis.txt"]


def test_what_a_left_link_leads_to_stays(run, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writing-a").symlink_to(theirs)
    assert run("model_baseline.py", *QUICK, "--output", tmp_path / "run").code == 0
    assert theirs.is_dir()
    assert not (tmp_path / "run" / ".writing-a").is_symlink()


def test_a_lock_s_file_that_leads_elsewhere(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "seed-0.owner").symlink_to(tmp_path / "thesis.txt")
    assert run("model_cnn.py", *SMALL, "--output", folder.parent).code == 0
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_a_folder_of_another_script(fails, quick_run):
    line = fails("model_cnn.py", *SMALL, "--output", quick_run, "--overwrite")
    assert "it holds results of model_baseline.py; pass another folder" in line


@pytest.mark.parametrize("text", ["5", "null", "[]", '["code"]', '{"code": []}'])
def test_a_malformed_identity_is_refused(fails, stopped, tmp_path, text):
    stopped(tmp_path, 1)
    (tmp_path / "checkpoint" / "identity.json").write_text(text)
    line = fails("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert "identity.json: damaged" in line
    assert "cannot be resumed: restore it, or pass --overwrite to start again" in line


def test_results_with_a_malformed_code_entry(fails, whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")
    change(copy, code={"files": []})
    line = fails("model_cnn.py", *SMALL, "--output", copy, "--resume")
    assert "no readable results of model_cnn.py" in line


def test_what_the_system_leaves_in_folders_is_no_hindrance(run, stopped, tmp_path):
    stopped(tmp_path, 1)
    (tmp_path / "tensorboard").mkdir()
    for folder in ("checkpoint", "tensorboard"):
        (tmp_path / folder / ".DS_Store").touch()
    outcome = run("model_cnn.py", *SMALL, "--output", tmp_path, "--resume")
    assert outcome.code == 0, outcome
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("name", ["epoch90.ckpt", "model.pt", "seed-0.pt/part"])
def test_a_checkpoint_folder_of_others(fails, tmp_path, name):
    theirs = tmp_path / "checkpoint" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    line = fails("model_baseline.py", *QUICK, "--output", tmp_path)
    assert "which is not of this project; pass another folder" in line
    assert theirs.read_text() == "theirs"


def test_overwriting_stopped_before_its_first_checkpoint_is_resumed(
    run, whole, stop_after, tmp_path
):
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    change(copy, test={"accuracy": "of the earlier experiment"})
    with stop_after(augmentation.Batches, "record"):
        outcome = run("model_cnn.py", *SMALL, "--output", copy, "--overwrite")
    assert outcome.code == 130, outcome
    assert "--resume" in outcome.err
    outcome = run("model_cnn.py", *SMALL, "--output", copy, "--resume")
    assert (outcome.code, outcome.out.count(" epoch ")) == (0, 6)
    same(whole, copy)


def test_resume_says_when_there_is_nothing_to_resume(run, whole, tmp_path):
    outcome = run("model_cnn.py", *SMALL, "--output", tmp_path / "new", "--resume")
    assert f"{tmp_path / 'new'}: nothing to resume, so it begins anew" in outcome.out
    same(whole, tmp_path / "new")
