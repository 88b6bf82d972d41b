"""What a search makes of its trials: nothing of diverged ones, nothing of fewer than before."""

import pytest
from written import complaints, metrics_of

import model_parameter_tuning as tuning

SMALL = """
base = "cnn-paper"
model = "Baseline"
synthetic = true
folds = 2
epochs = 2
"""


def test_a_diverged_trial_is_marked_and_gives_no_preset(run, fails, tmp_path):
    preset, out = tmp_path / "mine.toml", tmp_path / "out"
    preset.write_text(f"{SMALL}[space]\nlr = [1e38, 2e38]\n")
    flags = ("model_parameter_tuning.py", "--config", preset, "--output", out)
    line = fails(*flags)
    assert (
        "no trial produced a result: lr 1e+38, epochs 2 diverged; lr 2e+38, epochs 2 diverged"
        in line
    )
    assert not (out / "best.toml").exists()
    preset.write_text(f"{SMALL}prune = false\n[space]\nlr = [1e38, 0.001]\n")
    outcome = run(*flags[:-1], tmp_path / "other")
    assert outcome.code == 0, outcome
    assert "lr 1e+38: diverged after 1 of 2 models, " in outcome.out
    rows = (tmp_path / "other" / "trials.csv").read_text().splitlines()
    assert [row.rpartition(",")[2] for row in rows] == ["state", "diverged", "complete"]
    assert metrics_of(tmp_path / "other")["best"]["settings"]["lr"] == 0.001


def test_results_drawn_again_name_the_machine_that_trained(run, tmp_path, monkeypatch):
    preset, out = tmp_path / "mine.toml", tmp_path / "out"
    preset.write_text(f"{SMALL}[space]\nlr = [0.001]\n")
    flags = ("model_parameter_tuning.py", "--config", preset, "--output", out)
    assert run(*flags).code == 0
    before = metrics_of(out)["environment"]
    assert run(*flags, "--figure-format", "pdf").code == 0
    assert metrics_of(out)["environment"] == before


@pytest.mark.parametrize(
    ("search", "space", "trained"),
    [
        ('search = "tpe"\ntrials = 4', "batch-size = [32, 64]", 2),
        ("optimizer = 'adam'", "optimizer = ['adam', 'muon']\nfilter-lr = [0.02, 0.05]", 3),
    ],
)
def test_settings_drawn_twice_are_trained_once(run, tmp_path, search, space, trained, monkeypatch):
    preset, out, train = tmp_path / "mine.toml", tmp_path / "out", tuning.train_until_it_stops
    preset.write_text(
        f"{SMALL}{search}\nprune = false\n[space]\n{space}\n".replace(
            'model = "Baseline"',
            'model = "CellNet"\nwidths = [4, 4, 8]\nbatch-size = 96'
            if "optimizer" in space
            else 'model = "Baseline"',
        )
    )
    calls = []
    monkeypatch.setattr(tuning, "train_until_it_stops", lambda *a: calls.append(a) or train(*a))
    outcome = run("model_parameter_tuning.py", "--config", preset, "--output", out)
    assert outcome.code == 0, outcome
    assert len(calls) == 2 * trained  # folds
    cells = metrics_of(out)["cells"]
    assert all(cell["complete"] and len(cell["accuracy"]) == 2 for cell in cells)
    by_settings = {}
    for cell in cells:
        by_settings.setdefault(str(cell["settings"]), set()).add(tuple(cell["accuracy"]))
    assert len(by_settings) == trained < len(cells) == 4
    assert all(len(scores) == 1 for scores in by_settings.values())
    assert complaints(out / "metrics.json") == []


def test_early_stopping_where_the_rate_or_the_focus_changes_is_refused(fails, tmp_path):
    preset = tmp_path / "mine.toml"
    for more, space in (
        ('schedule = "triangle"\n', "lr = [0.001]"),
        ("focus = 0.5\nepochs = 9\n", "lr = [0.001]"),
        ("", 'schedule = ["constant", "triangle"]'),
    ):
        preset.write_text(
            f"{SMALL}patience = 3\n{more}[space]\n{space}\n".replace(
                "epochs = 2\n", "" if "epochs" in more else "epochs = 2\n"
            )
        )
        line = fails("model_parameter_tuning.py", "--config", preset, "--output", tmp_path / "out")
        assert "--patience 3: pass 0, as the learning rate or the focus changes" in line


def test_fewer_trials_do_not_replace_the_results_of_more(run, fails, tmp_path):
    preset, out = tmp_path / "mine.toml", tmp_path / "out"
    space = "[space]\nlr = { low = 0.001, high = 0.1, log = true }\n"
    preset.write_text(f'{SMALL}search = "tpe"\ntrials = 2\n{space}')
    flags = ("model_parameter_tuning.py", "--config", preset, "--output", out)
    assert run(*flags, "--trials", 3).code == 0
    before = metrics_of(out)
    line = fails(*flags)
    assert f"--trials 2: the results in {out} are of 3; pass --trials 3, or more" in line
    assert metrics_of(out) == before
    assert run(*flags, "--trials", 3).code == 0
