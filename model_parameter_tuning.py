"""Hyper-parameter search on held-out images; the test split is never read.

    python model_parameter_tuning.py                          # the paper's grid of 18 combinations
    python model_parameter_tuning.py --config tuning-best     # TPE around cnn-fast-60
    python model_parameter_tuning.py --storage postgresql://user@host/database

The preset's table [space] lists what to vary: `batch-size = [64, 128]` gives values,
`lr = {low = 1e-3, high = 1e-1, log = true}` a range. To continue a search that was stopped or
killed, run the same command again. To share its trials, run it several times at once, on several
machines with the same --storage; workers on one machine share its cores. Writes metrics.json,
trials.csv, best.toml (a preset for model_cnn.py) and figures into plots/tuning/, and keeps the
trials in study.db there.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_search

if __name__ == "__main__":
    run_script(parse_search, __file__)  # --help ends before torch loads; main parses again

import math
import time
from argparse import Namespace
from datetime import datetime
from functools import partial
from typing import cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from bloodcells.cli.arguments import data_settings
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Labelled
from bloodcells.data.folds import Fold, make_folds
from bloodcells.evaluation.prediction import score
from bloodcells.reporting.search_results import MACHINE, save_search
from bloodcells.search.database import DAMAGED, Database
from bloodcells.search.space import number_of_trials, prepare_trial, read_space
from bloodcells.search.study import ENVIRONMENT, MODELS, Worker, failure
from bloodcells.search.trials import COLUMNS, EarlyStopping, Search, any_diverged, models_of
from bloodcells.tracking import run_folder
from bloodcells.tracking.environment import environment
from bloodcells.training.device import choose_device, choose_precision, keep_freed_memory
from bloodcells.training.meter import DivergedError, refuse_divergence
from bloodcells.training.refusals import refuse_idle_randomisation
from bloodcells.training.threads import Trainings, trainings
from model_cnn import set_up, train_epoch

# settings that may differ between workers and restarts of a study
NOT_THE_SEARCH = (*MACHINE, "figure_format", "trials", "save_weights")


def main() -> None:
    """Run trials until all trials of the search are done, and write the results."""
    args, parser = parse_search(__file__)
    space = read_space(parser, args)
    trials = number_of_trials(args, space)
    device = choose_device(args.device, args.threads)
    args.precision = choose_precision(args.precision, device)
    record = environment(device.type, args.code)
    run_folder.prepare(args.output, args.code, script=args.code.script)
    dataset = bloodmnist.load(**data_settings(args))
    pool, folds = make_folds(args.protocol, dataset, args.folds, args.runs, args.seed)

    search = Search(args, space, models=len(folds))
    identity = {
        "dataset": dataset.describe(),
        "code": args.code.files,
        **{k: v for k, v in vars(args).items() if k not in NOT_THE_SEARCH},
    }
    database = Database(args.storage, default=args.output.resolve() / "study.db")
    study = database.study(args.output.resolve().name, identity)
    worker = Worker(database, study, trials, partial(prepare_trial, args, space, study))
    print(f"{trials} trials of up to {len(folds)} models on {device}; study: {database}")
    keep_freed_memory()
    objective = partial(
        held_out_score,
        search=search,
        images=pool.to(device),
        folds=folds,
        database=database,
        environment=record,
    )
    worker.run(objective, Console(trials, search))
    with database.errors(DAMAGED):
        filled = worker.filled()
        cells = [cell for trial in filled for cell in search.cells(trial)]
        environments = {
            trial.number: trial.user_attrs[ENVIRONMENT]
            for trial in filled
            if trial.state == TrialState.COMPLETE
        }
    save_search(args, dataset.describe(), environments, search, filled, cells)


def held_out_score(
    trial: optuna.Trial,
    search: Search,
    images: Labelled,
    folds: list[Fold],
    database: Database,
    environment: dict,
) -> float:
    """The objective: train one model per fold with the trial's settings; higher is better.

    Raises `optuna.TrialPruned` if the trial cannot win, and `UserError` for incompatible settings.
    """
    args = search.settings(trial)  # the trial's values override the command line's
    recipe = Recipe.of(args)
    refuse_idle_randomisation(recipe.domain_randomisation, recipe.focus, recipe.batch_size)

    def keep(models: list[dict], environment: dict) -> None:
        database.patiently(partial(trial.set_user_attr, ENVIRONMENT, environment))
        database.patiently(partial(trial.set_user_attr, MODELS, models))

    with database.errors(DAMAGED):
        models = list(models_of(trial))  # of the interrupted trial that this one continues, if any
        if not models and (twin := search.twin(trial)):  # the same settings were drawn before
            models = [{**model, "seconds": 0.0} for model in models_of(twin)]
            keep(models, twin.user_attrs[ENVIRONMENT])
    for fold in folds[len(models) :]:
        if models and search.hopeless(trial.study, models):
            raise optuna.TrialPruned
        train, held_out = images.choose(fold.train), images.choose(fold.held_out)
        with trainings() as beside:  # a worker that waits for the others needs no cores
            models.append(train_until_it_stops(args, recipe, fold, train, held_out, beside))
        keep(models, environment)
        if not any_diverged(models, None):
            database.patiently(partial(trial.report, search.score(models), len(models)))
    if math.isinf(score := search.score(models)):  # the last model diverged
        raise optuna.TrialPruned
    return score


def train_until_it_stops(
    args: Namespace,
    recipe: Recipe,
    fold: Fold,
    train: Labelled,
    held_out: Labelled | None,
    beside: Trainings,
) -> dict:
    """Train one model with early stopping; returns its history, one list per column."""
    started = time.perf_counter()
    early = EarlyStopping(args.patience, args.threshold)
    history: dict[str, list[float]] = {name: [] for name in COLUMNS}
    diverged = False
    try:
        model, batches, optimizers, schedulers = set_up(args, recipe, fold, train)
        for epoch in range(1, recipe.epochs + 1):
            beside.share_cores(args.threads)  # with other workers on this machine
            row = train_epoch(model, batches, optimizers, schedulers, recipe)
            row |= score(model, held_out, recipe)
            refuse_divergence(epoch, row)
            for name in COLUMNS:
                history[name].append(row[name])
            if early.stops(row["val_loss"]):
                break
    except DivergedError:
        diverged = True
    return {**history, "diverged": diverged, "seconds": time.perf_counter() - started}


class Console:
    """Prints one line per trial, with an estimate of the time left."""

    def __init__(self, total: int, search: Search):
        self.total, self.search = total, search
        self.seconds: list[float] = []

    def __call__(self, trial: FrozenTrial, done: int) -> None:
        """Print the trial that has just ended, the `done`-th."""
        settings = ", ".join(f"{name} {value}" for name, value in trial.params.items())
        models = models_of(trial)
        if reason := failure(trial):
            result = f"not trained: {reason}"
        else:
            score = self.search.score(models)
            result = f"{self.search.args.objective} {abs(score):.4f}"
            if trial.state == TrialState.PRUNED:
                how = "diverged" if math.isinf(score) else f"{result}, pruned"
                result = f"{how} after {len(models)} of {self.search.models} models"
        began, ended = cast(datetime, trial.datetime_start), cast(datetime, trial.datetime_complete)
        self.seconds.append((ended - began).total_seconds())
        left = (self.total - done) * sum(self.seconds) / len(self.seconds) / 60
        print(
            f"{done}/{self.total}: {settings}: {result}, {self.seconds[-1]:.0f} s; about "
            f"{left:.0f} min left for one worker",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
