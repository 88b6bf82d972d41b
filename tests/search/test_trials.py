"""Scores of trials, pruning and early stopping, against values by hand."""

import argparse
import math

import optuna
import pytest
from optuna.trial import create_trial

from bloodcells.cli.recipe import Recipe
from bloodcells.errors import UserError
from bloodcells.reporting import search_results
from bloodcells.search import trials
from bloodcells.search.space import IDLE, Choice, Range, prepare_trial, trained
from bloodcells.search.trials import EarlyStopping, Search


def test_early_stopping_counts_from_the_last_real_fall():
    losses = [1.0, 0.995, 0.98, 0.975, 0.972, 0.9, 0.9, 0.9, 0.9]
    early = EarlyStopping(patience=3, threshold=0.01)
    assert [early.stops(loss) for loss in losses] == [False] * 8 + [True]
    never = EarlyStopping(patience=0, threshold=0.01)
    assert not any(never.stops(1.0) for _ in range(20))


def folds(*accuracies):
    return [
        {name: list(a) for name in trials.COLUMNS} | {"diverged": False, "seconds": 1.0}
        for a in accuracies
    ]


def settings(**more):
    fixed = {"objective": "accuracy", "schedule": "constant", "focus": 0.0}
    return argparse.Namespace(**fixed, **more)


def test_pruning_compares_the_same_folds():
    study = optuna.create_study(direction="maximize")
    best = {"folds": folds([0.9], [0.8], [0.7])}
    study.add_trial(create_trial(value=0.8, user_attrs=best))
    args = settings(prune=True, prune_margin=0.05)
    search = Search(args, {}, models=2)
    assert search.hopeless(study, folds([0.84]))
    assert not search.hopeless(study, folds([0.86]))
    assert not search.hopeless(study, folds([0.84], [0.8]))
    assert search.hopeless(study, folds([0.84], [0.75]))


def test_a_trial_that_diverged_is_over_and_does_not_win():
    study = optuna.create_study(direction="maximize")
    lucky = folds([0.9], [0.9])
    lucky[1]["diverged"] = True
    search = Search(settings(prune=False, prune_margin=0.05, epochs=2), {}, models=2)
    assert search.hopeless(study, lucky)  # even without pruning
    assert not search.hopeless(study, lucky[:1])
    study.add_trial(create_trial(value=0.9, user_attrs={"folds": lucky}))
    study.add_trial(create_trial(value=0.3, user_attrs={"folds": folds([0.3], [0.3])}))
    cells = [cell for trial in study.trials for cell in search.cells(trial)]
    assert [cell["score"] for cell in cells] == [None, 0.3]
    assert trials.ranked(cells) == cells[1:]
    cells[1]["complete"] = False
    assert trials.ranked(cells) == []


def test_settings_that_do_nothing_beside_the_others_are_left_out():
    space = {"optimizer": Choice(("adam", "muon")), "filter_lr": Range(0.01, 0.1, log=True)}
    search = Search(settings(epochs=2, optimizer="adam"), space, models=1)
    study = optuna.create_study(direction="maximize")
    found = {}
    for optimizer in ("adam", "muon"):
        study.enqueue_trial({"optimizer": optimizer, "filter_lr": 0.02})
        trial = study.ask()
        found[optimizer] = search.settings(trial).filter_lr
        trial.set_user_attr("folds", folds([0.5]))
        study.tell(trial, 0.5)
    assert found == {"adam": Recipe.filter_lr, "muon": 0.02}
    cells = [cell["settings"] for trial in study.trials for cell in search.cells(trial)]
    assert cells[0] == {"optimizer": "adam", "epochs": 2}
    assert cells[1] == {"optimizer": "muon", "filter_lr": 0.02, "epochs": 2}


@pytest.mark.parametrize("name", IDLE)
def test_a_recipe_refuses_what_the_search_calls_idle(name):
    plain = argparse.Namespace(**vars(Recipe()))
    others, idle = IDLE[name]
    assert idle(plain)
    assert set(others) <= set(vars(plain))
    other = "colour" if name == "unchanged" else 0.3
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} does nothing"):
        Recipe(**{name: other})


def test_a_preset_s_setting_is_left_out_where_it_would_do_nothing():
    plain = {**vars(Recipe()), "objective": "accuracy", "optimizer": "muon", "filter_lr": 0.02}
    space = {"optimizer": Choice(("adam", "muon"))}
    search = Search(argparse.Namespace(**plain), space, models=1)
    study = optuna.create_study()
    for optimizer, rate in (("adam", Recipe.filter_lr), ("muon", 0.02)):
        study.enqueue_trial({"optimizer": optimizer})
        assert Recipe.of(search.settings(study.ask())).filter_lr == rate
    fixed = argparse.Namespace(**plain | {"optimizer": "adam", "lr": 0.1})
    search = Search(fixed, {"lr": Choice((0.1, 0.2))}, models=1)
    study.enqueue_trial({"lr": 0.1})
    with pytest.raises(UserError, match="--filter-lr does nothing without"):
        Recipe.of(search.settings(study.ask()))


def test_scores_of_shorter_and_diverged_trainings():
    space = {"epochs": Choice((2, 3))}
    search = Search(settings(), space, models=2)
    two = folds([0.1, 0.2, 0.3], [0.5, 0.6])  # the second stopped early
    assert search.score_at(two, 3) == pytest.approx(0.45)
    assert search.score_at(two, 2) == pytest.approx(0.4)
    assert search.score(two) == pytest.approx(0.45)
    two[1]["diverged"] = True
    assert search.score_at(two, 3) == -math.inf
    assert search.score_at(two, 2) == pytest.approx(0.4)  # then it had not yet diverged
    assert search.score(two) == pytest.approx(0.4)
    assert trials.at({"val_loss": [], "diverged": True}, "val_loss", None) == trials.DIVERGED


def test_the_order_of_the_lines_of_a_space_says_nothing():
    space = {"lr": Choice((0.1, 0.2)), "batch_size": Choice((64, 128))}
    turned = dict(reversed(space.items()))
    args = settings(search="grid")
    assert list(trained(args, space)) == list(trained(args, turned))
    cells = [[prepare_trial(args, s, None, slot) for slot in range(4)] for s in (space, turned)]
    assert cells[0] == cells[1]


def test_draws_depend_on_the_seed_and_the_slot_alone():
    def drawn(seed, slot):
        study = optuna.create_study()
        prepare_trial(argparse.Namespace(search="tpe", seed=seed), {}, study, slot)
        return study.ask().suggest_float("lr", 1e-3, 1e-1, log=True)

    assert drawn(0, 0) == drawn(0, 0)
    assert len({drawn(0, 0), drawn(0, 1), drawn(1, 0)}) == 3


def test_the_lowest_held_out_loss_is_the_best():
    args = argparse.Namespace(**{**vars(settings()), "objective": "loss"})
    search = Search(args, {"epochs": Choice((1, 2))}, models=1)
    good, bad = folds([0.9, 0.9]), folds([0.1, 0.1])
    good[0]["val_loss"], bad[0]["val_loss"] = [0.5, 0.2], [0.3, 0.4]
    assert search.score_at(good, 2) == pytest.approx(-0.2)
    assert search.score(good) > search.score(bad) == pytest.approx(-0.3)


def test_best_of_a_recipe_with_focus_has_its_epochs():
    best = {"epochs": [2, 3]}
    settings = {"protocol": "official", "schedule": "constant", "epochs": 9}
    for focus, epochs in ((0.0, 2), (0.3, 9)):
        found = argparse.Namespace(**settings, focus=focus)
        whole = argparse.Namespace(settings=lambda trial, found=found: found)
        assert search_results.best_settings(whole, best, None)["epochs"] == epochs
