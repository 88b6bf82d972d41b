"""A result knows its code: what counts as an edit, and what becomes of edited code's results."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from shared import QUICK, ROOT, git
from written import metrics_of

from bloodcells.cli import arguments, presets, scripts, studies
from bloodcells.tracking import provenance

DEFAULTS = """
import sys
from bloodcells.cli import scripts, studies
name = sys.argv.pop(1)
args = getattr(scripts if hasattr(scripts, name) else studies, name)(sys.argv.pop(1))
print(args.output.name, args.code.hash, *args.code.edited)
"""


def defaults_of_process(project):
    """The default folder of model_cnn.py, its code's hash, and what is edited, as it says."""
    command = [sys.executable, "-c", DEFAULTS, "parse_cnn", str(project / "model_cnn.py")]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    folder, code, *edited = done.stdout.split()
    return folder, code, edited


def defaults(project, *flags, script="model_cnn.py", parse="parse_cnn"):
    """The same of any script, with flags, by the parser of this process, which is not edited."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (provenance, arguments):
            patch.setattr(module, "ROOT", project)
        patch.setattr(presets, "PRESETS", project / ".config")
        patch.setattr(arguments, "code_of", provenance.code_of)
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        parser = getattr(scripts, parse, None) or getattr(studies, parse)
        forget()
        args = parser(str(project / script))
    forget()
    return args.output.name, args.code.hash, args.code.edited


def forget():
    """What was read of the project's files and its last commit."""
    for name in ("code_of", "committed_code", "on_disk", "head", "at_head", "at_commit"):
        getattr(provenance, name).cache_clear()


def edit(project, path, old, new):
    text = (project / path).read_text()
    assert old in text
    (project / path).write_text(text.replace(old, new, 1))


def test_committed_code_has_the_usual_folder(copy):
    assert defaults_of_process(copy) == defaults(copy)
    assert defaults(copy)[::2] == ("cnn-paper", [])
    edit(copy, "models.py", "kernel_size=3", "kernel_size=5")
    assert defaults_of_process(copy) == defaults(copy)


@pytest.mark.parametrize(
    "path",
    [
        *("model_cnn.py", "models.py", "bloodcells/training/device.py"),
        *("bloodcells/data/bloodmnist.py", "bloodcells/evaluation/metrics.py"),
        *("bloodcells/cli/recipe.py", "bloodcells/cli/flags.py", ".config/cnn-paper.toml"),
    ],
)
def test_an_edit_that_counts_has_a_folder_of_its_own(copy, path):
    if path.endswith(".toml"):
        edit(copy, path, "epochs = 5", "epochs = 6")
    else:
        (copy / path).write_text((copy / path).read_text() + "\nMINE = 1\n")
    folder, _, edited = defaults(copy)
    assert edited == [path]
    assert folder.startswith("cnn-paper-edited-")
    git(copy, "commit", "--quiet", "--all", "--message", "edited")
    assert defaults(copy)[0] == "cnn-paper"


def test_an_edited_table_of_photographs_counts(copy):
    table = copy / "bloodcells" / "data" / "photographs.csv.gz"
    assert defaults(copy)[2] == []
    table.write_bytes(table.read_bytes() + b"\0")
    folder, _, edited = defaults(copy)
    assert edited == ["bloodcells/data/photographs.csv.gz"]
    assert folder.startswith("cnn-paper-edited-")


def test_the_code_of_an_earlier_commit(copy, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", copy)
    commit, then = provenance.git("rev-parse", "HEAD").decode().strip(), "kernel_size=3"
    edit(copy, "models.py", then, "kernel_size=5")
    git(copy, "commit", "--quiet", "--all", "--message", "edited")
    forget()
    assert provenance.at_head("models.py") == (copy / "models.py").read_bytes()
    earlier = provenance.at_commit(commit, "models.py")
    assert earlier.replace(then.encode(), b"kernel_size=5", 1) == provenance.at_head("models.py")
    assert provenance.at_commit("0" * 12, "models.py") is None
    forget()


def test_each_edit_has_a_folder_of_its_own(copy):
    loss, names = "loss = losses.mean()", set()
    for new in ("loss = losses.sum()", "loss = losses.max()", "loss = losses.sum() "):
        edit(copy, "model_cnn.py", loss, new)
        names.add(defaults(copy)[0])
        loss = new
    assert len(names) == 2  # a space is no edit


def test_a_base_of_the_preset_counts_and_a_new_preset_does_not(copy):
    edit(copy, ".config/cnn-best.toml", "focus = 0.3", "focus = 0.4")
    assert defaults(copy, "--config", "cnn-fast-15")[2] == [".config/cnn-best.toml"]
    assert defaults(copy)[2] == []
    (copy / ".config/mine.toml").write_text('base = "cnn-paper"\nepochs = 7\n')
    folder, _, edited = defaults(copy, "--config", "mine")
    assert (folder, edited) == ("mine", [])


def test_a_preset_elsewhere_with_the_name_of_a_committed_one(copy, tmp_path):
    theirs = tmp_path / "cnn-paper.toml"
    shutil.copy(copy / ".config" / theirs.name, theirs)
    assert defaults(copy, "--config", theirs)[0] == "cnn-paper"
    edit(tmp_path, theirs.name, "epochs = 5", "epochs = 6")
    folder, _, edited = defaults(copy, "--config", theirs)
    assert edited == [theirs.name]
    assert folder.startswith("cnn-paper-edited-")


@pytest.mark.parametrize(
    "path", ["reporting/figures/style.py", "reporting/results.py", "training/session.py"]
)
def test_an_edit_that_changes_no_number_does_not_count(copy, path):
    before, file = defaults(copy), copy / "bloodcells" / path
    file.write_text(file.read_text() + "\nMINE = 1\n")
    assert defaults(copy) == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are text")
def test_names_that_are_no_text_and_a_cast_of_one_s_own(copy):
    (copy / os.fsdecode(b"caf\xe9.txt")).touch()
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message", "a name in Latin-1")
    edit(copy, "models.py", "class Baseline", "def cast(x):\n    return x\n\n\nclass Baseline")
    edit(copy, "models.py", "class Baseline", "cast(1)\n\n\nclass Baseline")
    assert defaults(copy)[2] == ["models.py"]


def test_a_copied_script_is_edited_code(copy):
    shutil.copy(copy / "model_cnn.py", copy / "mine.py")
    edit(copy, "mine.py", "loss = losses.mean()", "loss = losses.sum()")
    folder, _, edited = defaults(copy, script="mine.py")
    assert edited == ["mine.py"]
    assert folder.startswith("cnn-paper-edited-")
    assert defaults(copy)[0] == "cnn-paper"


def test_what_git_does_not_list_is_edited_code_too(copy, tmp_path):
    git(copy, "update-index", "--assume-unchanged", "models.py")
    edit(copy, "models.py", "kernel_size=3", "kernel_size=5")
    assert defaults(copy)[2] == ["models.py"]
    (copy / ".git" / "info" / "exclude").write_text("mine.py\n")
    shutil.copy(copy / "model_cnn.py", copy / "mine.py")
    assert defaults(copy, script="mine.py")[2] == ["mine.py", "models.py"]
    elsewhere = tmp_path / "elsewhere.py"  # run with the project on PYTHONPATH
    shutil.copy(copy / "model_cnn.py", elsewhere)
    assert defaults(copy, script=elsewhere)[2] == [str(elsewhere), "models.py"]


@pytest.mark.parametrize("content", [b"def f(:\n", b"x = '\xff'\n", b"\0"])
def test_a_file_that_is_no_python_is_edited_code(copy, content):
    (copy / "models.py").write_bytes(content)
    assert defaults(copy)[2] == ["models.py"]
    git(copy, "commit", "--quiet", "--all", "--message", "broken")
    assert defaults(copy)[2] == []
    git(copy, "checkout", "--quiet", "HEAD~", "--", "models.py")
    assert defaults(copy)[2] == ["models.py"]


def test_other_ways_to_write_the_same_file(copy):
    before = defaults(copy)
    text = (copy / "models.py").read_text()
    for same in (text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()):
        (copy / "models.py").write_bytes(same)
        assert defaults(copy) == before


def test_studies_take_their_step_from_the_cnn(copy):
    edit(copy, "model_cnn.py", "loss = losses.mean()", "loss = losses.sum()")
    for script in ("ablation", "batch_effect", "explain", "bench"):
        parse = f"parse_{script}"
        assert defaults(copy, script=f"{script}.py", parse=parse)[2] == ["model_cnn.py"]
    assert defaults(copy, script="model_baseline.py", parse="parse_baseline")[2] == []


def test_without_git_the_list_tells_the_committed_code(copy):
    shutil.rmtree(copy / ".git")
    folder, _, edited = defaults(copy)
    assert folder.startswith("cnn-paper-edited-")  # nothing to compare with
    assert "model_cnn.py" in edited
    files = provenance.code_of(ROOT / "model_cnn.py").files
    preset = {".config/cnn-paper.toml": provenance.committed_preset(".config/cnn-paper.toml")}
    (copy / "plots").mkdir()
    (copy / "plots/code.json").write_text(json.dumps({"model_cnn.py": files, **preset}))
    assert defaults(copy)[::2] == ("cnn-paper", [])
    edit(copy, ".config/cnn-paper.toml", "epochs = 5", "epochs = 6")
    assert defaults(copy)[2] == [".config/cnn-paper.toml"]
    edit(copy, ".config/cnn-paper.toml", "epochs = 6", "epochs = 5")
    edit(copy, "models.py", "kernel_size=3", "kernel_size=5")
    assert defaults(copy)[2] == ["models.py"]


def test_a_study_of_edited_runs_is_one_of_edited_code():
    code = provenance.code_of(ROOT / "robustness.py")
    code = replace(code, committed=code.files, others={})
    assert code.made_of({"mine": None, "ours": code.describe()}).edited == []
    mine = {"hash": "0" * 12, "edited": ["models.py"]}
    assert code.made_of({"mine": mine}).edited == ["mine: models.py"]


@pytest.fixture
def edited(monkeypatch):
    """From here on, models.py and optim.py differ from the committed ones."""
    code_of = provenance.code_of

    def differing(script, presets=()):
        found = code_of(script, presets)
        other = {"models.py": "0" * 12, "bloodcells/training/optim.py": "0" * 12}
        return replace(found, files=found.files | other, committed=found.files, others={})

    monkeypatch.setattr("bloodcells.cli.arguments.code_of", differing)


@pytest.mark.parametrize("flags", [("--overwrite",), ("--resume",), ()])
def test_edited_code_leaves_a_committed_result_alone(fails, quick_run, edited, flags):
    before = {path.name: path.read_bytes() for path in quick_run.iterdir() if path.is_file()}
    line = fails("model_baseline.py", *QUICK, "--output", quick_run, *flags)
    assert "it holds results of committed code, and these files are edited" in line
    assert "bloodcells/training/optim.py, models.py" in line
    assert {p.name: p.read_bytes() for p in quick_run.iterdir() if p.is_file()} == before


def test_edited_code_replaces_its_own_results(run, tmp_path, edited):
    for flags in ((), ("--overwrite",)):
        outcome = run("model_baseline.py", *QUICK, "--output", tmp_path, *flags)
        assert outcome.code == 0, outcome
        assert "bloodcells/training/optim.py, models.py; results go to" in outcome.out
    code = metrics_of(tmp_path)["code"]
    assert code["edited"] == ["bloodcells/training/optim.py", "models.py"]
    assert code["script"] == "model_baseline.py"


def test_a_run_is_not_resumed_by_other_code(run, fails, tmp_path, request):
    flags = (*QUICK, "--output", tmp_path)
    assert run("model_baseline.py", *flags, "--only-fold", 0).code == 0
    request.getfixturevalue("edited")
    line = fails("model_baseline.py", *flags, "--resume")
    assert "another experiment (different code: bloodcells/training/optim.py, models.py)" in line


def test_weights_of_edited_code_have_a_name_of_their_own(copy):
    command = "from bloodcells.cli.scripts import parse_release as p; print(p('model_release.py'))"
    edit(copy, "bloodcells/evaluation/calibration.py", "BINS = 15", "BINS = 10")
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=copy, capture_output=True, text=True, check=True
    )
    assert "weights/cnn-robust-edited-" in done.stdout


def test_a_date_among_the_settings():
    one, other = (provenance.settings_hash(b"lr = [2024-01-0%d]" % day) for day in (1, 2))
    assert one != other


def test_another_repository_s_hook(copy, monkeypatch, tmp_path):
    git(tmp_path, "init", "--quiet", "other")
    before = defaults(copy)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert defaults(copy) == before
