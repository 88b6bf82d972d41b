"""Scores of trials, pruning and early stopping, against values by hand."""

import argparse

import optuna
import pytest
from optuna.trial import create_trial

from bloodcells.reporting import search_results
from bloodcells.search import trials
from bloodcells.search.space import Choice, prepare_trial
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
    args = settings(prune_margin=0.05)
    search = Search(args, {}, models=2)
    assert search.hopeless(study, folds([0.84]))
    assert not search.hopeless(study, folds([0.86]))
    assert not search.hopeless(study, folds([0.84], [0.8]))
    assert search.hopeless(study, folds([0.84], [0.75]))


def test_scores_of_shorter_and_diverged_trainings():
    space = {"epochs": Choice((2, 3))}
    search = Search(settings(), space, models=2)
    two = folds([0.1, 0.2, 0.3], [0.5, 0.6])  # the second stopped early
    assert search.score_at(two, 3) == pytest.approx(0.45)
    assert search.score_at(two, 2) == pytest.approx(0.4)
    assert search.score(two) == pytest.approx(0.45)
    two[1]["diverged"] = True
    assert search.score_at(two, 3) == pytest.approx(0.15)
    assert search.score_at(two, 2) == pytest.approx(0.4)  # then it had not yet diverged
    assert search.score(two) == pytest.approx(0.4)
    assert trials.at({"val_loss": [], "diverged": True}, "val_loss", None) == trials.DIVERGED


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
