"""Flags, presets and mistakes: one clear line, exit code 2, before anything slow is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from shared import QUICK, ROOT

from bloodcells import __main__ as listing
from bloodcells.cli import arguments, flags, scripts, types
from bloodcells.errors import UserError

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if path.name != "models.py")
TRAINING = ["model_baseline.py", "model_cnn.py"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_a_wrong_flag_load_nothing_slow(script):
    code = (
        "import runpy, sys; sys.path.insert(0, '.')\n"
        "for flag in ('--help', '--nonsense'):\n"
        f"    sys.argv = ['{script}', flag]\n"
        f"    try: runpy.run_path('{script}', run_name='__main__')\n"
        "    except SystemExit as stop: print(flag, 'exit code', stop.code)\n"
        "assert not {'torch', 'numpy', 'medmnist', 'matplotlib'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, _, ending = done.stdout.partition("\noptions:\n")
    assert ending.count(f"    python {script}") >= (1 if script == "hubconf.py" else 2)
    assert done.stdout.endswith("--help exit code 0\n--nonsense exit code 2\n")
    assert "unrecognized arguments: --nonsense" in done.stderr
    assert str(ROOT) not in done.stdout.replace("\n", "").replace(" ", "")  # lines are wrapped


@pytest.mark.parametrize("script", TRAINING)
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--epochs", "0"], "'0' is not an integer from 1 to"),
        (["--epochs", "many"], "'many' is not an integer from 1 to"),
        (["--lr", "-0.1"], "'-0.1' is not a positive number"),
        (["--lr", "nan"], "'nan' is not a positive number"),
        (["--seed", "-1"], "'-1' is not an integer from 0 to 4294967295"),
        (["--seed", "4294967296"], "'4294967296' is not an integer from 0 to 4294967295"),
        (["--batch-size", "0"], "from 1 to"),
        (["--folds", "1"], "from 2 to 20"),
        (["--folds", "21"], "from 2 to 20"),
        (["--config", "long" * 100], "no such file"),
        (["--size", "30"], "invalid choice"),
        (["--output", ""], "an empty name; perhaps a shell variable is not set"),
        (["--data-root", " "], "an empty name"),
        (["--epochs", "\u0663"], "is not an integer"),  # an Arabic digit
        (["--epochs", "1_0"], "is not an integer"),
        (["--size", "\u0662\u0668"], "is not an integer"),
        (["--lr", "\u0660.1"], "is not a positive number"),
        (["--lr", "1_0"], "is not a positive number"),
        (["--device", "tpu"], "invalid choice"),
        (["--protocol", "best"], "invalid choice"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (
            ["--config", "missing.toml"],
            "--config missing.toml: no such file; the presets of .config/ are ablation",
        ),
    ],
)
def test_wrong_flags(fails, script, flags, says):
    assert says in fails(script, *flags)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("learning-rate = 1", "unknown key 'learning-rate'; did you mean 'lr'?"),
        ("output = 'x'", "unknown key 'output'"),
        ("epochs = 0", "'0' is not an integer from 1 to"),
        ("synthetic = 'yes'", "--synthetic"),
        ("epochs =", "not a readable TOML file"),
        (f"epochs = {'[' * 10_000}", "not a readable TOML file"),
        ("[training]\nepochs = 3", "unknown key 'training'"),
        ('data-root = "a\\u0000b"', "has a null character"),
        ("base = 'nothing'", "base nothing: no such file; the presets of .config/ are"),
        ("batch-size = 3\nbatch_size = 4", "it has both 'batch_size' and 'batch-size', which are"),
        (f"seed = {'1' * 5000}", "not a readable TOML file"),
        ("base = 'mine.toml'", "it is its own base"),
        ("base = './../cycle/mine.toml'", "it is its own base"),
    ],
)
def test_wrong_preset(fails, tmp_path, monkeypatch, text, says):
    (tmp_path / "cycle").mkdir()
    monkeypatch.chdir(tmp_path / "cycle")
    preset = Path("mine.toml")
    preset.write_text(text)
    line = fails("model_cnn.py", "--config", preset)
    assert says in line
    assert str(preset) in line


def training_parser():
    parser = arguments.make_parser(str(ROOT / "model_baseline.py"), preset="baseline")
    flags.add_training_flags(parser)
    return parser


def test_command_line_wins_over_preset_over_default(tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text("epochs = 7\nbatch-size = 32\nsynthetic = true\n")
    flags = ["--config", str(preset), "--epochs", "9", "--seed", "0"]
    args = arguments.parse(training_parser(), flags)
    assert (args.epochs, args.batch_size, args.synthetic, args.folds) == (9, 32, True, 5)
    assert args.output == ROOT / "plots" / "mine-epochs-9-synthetic"


def test_a_preset_may_spell_a_name_with_either_line(tmp_path, monkeypatch):
    (tmp_path / "first.toml").write_text("base = 'cnn-paper'\nbatch_size = 64\nquiet = false")
    (tmp_path / "second.toml").write_text("base = 'first.toml'\nbatch-size = 256")
    monkeypatch.setattr(
        sys, "argv", ["model_cnn.py", "--config", str(tmp_path / "second.toml"), "--synthetic"]
    )
    args = scripts.parse_cnn(str(ROOT / "model_cnn.py"))
    assert (args.batch_size, args.quiet) == (256, False)


def test_preset_over_its_base(tmp_path):
    (tmp_path / "first.toml").write_text("epochs = 7\nlr = 0.5\nfolds = 3")
    (tmp_path / "second.toml").write_text(f"base = '{tmp_path / 'first.toml'}'\nlr = 0.1")
    last = tmp_path / "last.toml"
    last.write_text(f"base = '{tmp_path / 'second.toml'}'\nepochs = 9")
    args = arguments.parse(training_parser(), ["--config", str(last)])
    assert (args.epochs, args.lr, args.folds) == (9, 0.1, 3)
    assert args.output == ROOT / "plots" / "last"


def test_folder_names_tell_runs_apart():
    flags = [
        [],
        ["--size", "64"],
        ["--protocol", "as-published"],
        ["--protocol", "official"],
        ["--synthetic", "--figure-format", "pdf"],
        ["--epochs", "7", "--lr", "0.01"],
        ["--photographs", "PBC"],
    ]
    names = [arguments.parse(training_parser(), f).output.name for f in flags]
    assert names == [
        "baseline",
        "baseline-size-64",
        "baseline-as-published",
        "baseline-official",
        "baseline-synthetic",
        "baseline-epochs-7-lr-0.01",
        "baseline-photographs",
    ]


def test_folders_of_one_name_are_told_apart():
    assert arguments.short(Path("plots/cnn-best")) == "cnn-best"
    assert arguments.short(Path("old/cnn-best")) == "old-cnn-best"


def test_weights_of_other_settings_have_a_name_of_their_own(monkeypatch):
    def weights(*flags):
        monkeypatch.setattr("sys.argv", ["model_release.py", "--elsewhere", "wbc", *flags])
        return scripts.parse_release(str(ROOT / "model_release.py")).weights.stem

    assert weights() == weights("--output", "mine/release") == "cnn-robust"
    assert weights("--config", "release-best") == "cnn-best"
    assert weights("--false-alarms", "0.05") == "release-false-alarms-0.05"
    other = ("--false-alarms", "0.05", "--output", "mine/cnn-robust")  # as the released ones
    assert weights(*other) == "release-false-alarms-0.05"
    assert weights("--run", "/old/plots/cnn-robust") == "release-run-cnn-robust"
    assert weights("--run", "/mine/cnn-robust") == "release-run-mine-cnn-robust"


@pytest.mark.parametrize(
    ("flag", "value", "partner"),
    [
        ("--filter-lr", "0.1", "--optimizer muon"),
        ("--weight-decay", "0.1", "--optimizer muon"),
        ("--warmup", "0.1", "--schedule triangle or --focus"),
    ],
)
def test_a_setting_that_does_nothing_is_refused(fails, tmp_path, flag, value, partner):
    line = fails("model_cnn.py", *QUICK, flag, value, "--output", tmp_path)
    assert f"{flag} does nothing without {partner}" in line


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("model_baseline.py", "--synthetic", "--data-root", "x"), "does nothing with --synthetic"),
        (("report.py", "--draw", "x", "--root", "y"), "--root does nothing with --compare or"),
        (
            ("predict.py", "--export", "a.onnx", "--crop", "99"),
            "--crop does nothing without images",
        ),
        (("model_parameter_tuning.py", "--no-prune", "--prune-margin", "1"), "with --no-prune"),
        (("model_parameter_tuning.py", "--patience", "0", "--threshold", "0.1"), "--patience 0"),
    ],
)
def test_a_flag_that_does_nothing_is_refused(fails, command, says):
    assert says in fails(*command)


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("ablation.py", "--save-weights"),
        ("explain.py", "--save-weights"),
        ("data_visualization.py", "--seed"),
        ("data_visualization.py", "--threads"),
    ],
)
def test_help_leaves_out_a_flag_that_is_always_refused(run, fails, script, flag):
    assert flag not in run(script, "--help").out
    assert flag in run("model_cnn.py", "--help").out
    value = () if flag == "--save-weights" else (1,)
    assert f"{flag} does nothing" in fails(script, flag, *value)


def test_a_warmup_that_leaves_no_step_to_focus_on_is_refused(fails, tmp_path):
    flags = ("--config", "cnn-best", "--synthetic", "--warmup", 0.9, "--output", tmp_path)
    assert "and --warmup 0.9: the first pass" in fails("model_cnn.py", *flags)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("data_visualization.py", "--near-duplicate", "1e9"), "at most 255"),
        (("robustness.py", "--images", "99999999"), "from 1 to 100000"),
        (("model_release.py", "--false-alarms", "0"), "above 0 and at most 0.5"),
        (("predict.py", "cell.png", "--weights", ""), "an empty name"),
        (("architecture.py", "--size", "9" * 400), "invalid choice: 999"),
        (("model_release.py", "--weights", "README.md"), "must end in .safetensors"),
    ],
)
def test_values_that_make_no_sense(fails, command, says):
    assert says in fails(*command)


def test_unknown_model_and_absent_device(fails, monkeypatch):
    assert "models.py has Baseline, ConvNet" in fails("model_cnn.py", "--model", "ResNet", *QUICK)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "--device cuda" in fails("model_cnn.py", *QUICK, "--device", "cuda")


@pytest.mark.parametrize("script", ["bench.py", "data_visualization.py", *TRAINING])
def test_unwritable_output(fails, tmp_path, script):
    blocker = tmp_path / "file"
    blocker.touch()
    line = fails(script, "--synthetic", "--output", blocker / "run")
    assert f"--output {blocker / 'run'}: cannot write there" in line


def test_every_script_is_listed(capsys):
    listing.main()
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[0] for line in lines if ".py " in line}
    assert names == {path.name for path in ROOT.glob("*.py")} - {"models.py"}
    assert lines[-1] == "For the flags of a script, with examples: python SCRIPT --help"


def test_weights_of_others_are_not_replaced(fails, weights, tmp_path):
    (tmp_path / "unet.safetensors").write_text("theirs")
    line = fails("model_release.py", "--weights", tmp_path / "unet.safetensors")
    assert "not of this project; pass another name" in line
    (tmp_path / "new.json").write_text("[]")
    line = fails("model_release.py", "--weights", tmp_path / "new.safetensors")
    assert "not of this project; pass another name" in line
    assert types.weights_to_write(str(weights)) == weights


def test_a_run_of_another_folder_does_not_replace_the_released_weights(monkeypatch, tmp_path):
    def weights_of(*flags):
        argv = ["model_release.py", "--elsewhere", tmp_path, *flags]
        monkeypatch.setattr(sys, "argv", [*map(str, argv)])
        return scripts.parse_release(str(ROOT / "model_release.py")).weights

    assert weights_of() == ROOT / "weights" / "cnn-robust.safetensors"
    (tmp_path / "plots" / "cnn-robust").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    mine = weights_of("--run", "plots/cnn-robust", "--output", tmp_path / "mine")
    assert mine != ROOT / "weights" / "cnn-robust.safetensors"


def test_the_home_folder_after_an_equals_sign():  # where no shell replaces it
    assert types.location("~/runs") == Path.home() / "runs"


def test_scores_elsewhere_of_a_folder_without_a_name_are_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert types.named_folder(".").name == tmp_path.name
    (tmp_path / "metrics.json").write_text('{"elsewhere": ""}')  # as recorded before
    with pytest.raises(UserError, match="which would be lost"):
        arguments.refuse_losing_scores(tmp_path / "metrics.json", None)
