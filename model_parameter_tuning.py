"""Search hyper-parameters on held-out images; the test split is never read.

    python model_parameter_tuning.py                          # the paper's grid of 18 cells
    python model_parameter_tuning.py --config tuning-best     # TPE about the best recipe
    python model_parameter_tuning.py --storage postgresql+psycopg://user@host/database

The same command continues a search that was stopped or killed; run at once on several machines
with one --storage, it shares the trials among them. Writes plots/tuning/ with best.toml, a preset
for model_cnn.py.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from typing import TYPE_CHECKING

from bloodcells.cli.arguments import (
    PLACES,
    Parser,
    UserError,
    make_parser,
    parse,
    positive,
    run_script,
    share,
    whole_number,
)
from bloodcells.cli.flags import add_model_flags, add_recipe_flags, add_training_flags

if TYPE_CHECKING:  # both take long to load
    from optuna.trial import FrozenTrial

    from bloodcells.search.space import Search

NOT_THE_SEARCH = (  # what may differ between workers and restarts of one study
    *(*PLACES, "device", "figure_format", "started", "storage", "trials", "save_weights"),
)


def main() -> None:
    parser = make_parser(__doc__, preset="tuning")
    parser.tables = ("space",)
    add_training_flags(parser)
    add_recipe_flags(parser)
    add_model_flags(parser)
    add_search_flags(parser)
    args = parse(parser)
    if args.protocol not in ("cross-validation", "official"):
        raise UserError(f"--protocol {args.protocol}: it leaves no untouched images to choose by")
    if (args.trials is None) == (args.search == "tpe"):
        raise UserError("--trials: how many for --search tpe, none for the grid, which has its own")

    from bloodcells.data import bloodmnist, folds
    from bloodcells.reporting import search_results
    from bloodcells.search import space as spaces
    from bloodcells.search.study import Database, Worker
    from bloodcells.tracking import run_folder
    from bloodcells.training import loop

    space = spaces.read_space(parser, args)
    device = loop.choose_device(args.device)
    args.precision = loop.choose_precision(args.precision, device)
    environment = run_folder.environment(device.type)
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    pool, plans = folds.plan(args.protocol, dataset, args.folds, args.runs, args.seed)
    total = spaces.slots(args, space)
    database = Database(args.storage, default=args.output.resolve() / "study.db")
    objective = spaces.Search(args, space, pool, plans, device)
    search = {
        "version": spaces.VERSION,
        "dataset": dataset.describe(),
        "space": args.space,
        **{k: v for k, v in vars(args).items() if k not in (*NOT_THE_SEARCH, "space")},
    }
    study = database.study(args.output.resolve().name, search)
    worker = Worker(database, study, total, partial(spaces.prepare, args, space, study))
    print(f"{total} trials of {len(plans)} models on {device}; study: {database}")
    worker.run(objective, Console(total, objective))
    with database.errors():
        trials, importances = worker.filled(), search_results.importances(study)
    search_results.save(args, dataset.describe(), environment, objective, trials, importances)


def add_search_flags(parser: Parser) -> None:
    """Add the flags of the search; what it varies is the table [space] of the preset."""
    group = parser.add_argument_group("search")
    group.add_argument(
        "--search", choices=("grid", "tpe"), default="grid", help="all cells, or Optuna's TPE"
    )
    group.add_argument("--trials", type=whole_number(1, 10**6), help="of --search tpe, in all")
    group.add_argument(
        "--objective",
        choices=("accuracy", "loss"),
        default="accuracy",
        help="what is best on the held-out images after the last epoch",
    )
    group.add_argument(
        "--patience",
        type=whole_number(0, 10**6),
        default=5,
        help="epochs without a better loss that end a training; 0: never",
    )
    group.add_argument(
        "--threshold", type=share, default=0.01, help="share by which a better loss is lower"
    )
    group.add_argument(
        "--prune",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="end a trial that lies behind the best by more than --prune-margin",
    )
    group.add_argument(
        "--prune-margin", type=positive, default=0.05, help="in units of the objective"
    )
    group.add_argument(
        "--storage",
        metavar="URL",
        help="database of the study, shared by all workers (default: study.db in the folder)",
    )


class Console:
    """A line a trial, with the time left."""

    def __init__(self, total: int, search: Search):
        self.total, self.search = total, search
        self.seconds: list[float] = []

    def __call__(self, trial: FrozenTrial, done: int) -> None:
        settings = ", ".join(f"{name} {value}" for name, value in trial.params.items())
        folds = trial.user_attrs.get("folds", [])
        if "failed" in trial.user_attrs:
            result = f"cannot be trained: {trial.user_attrs['failed']}"
        else:
            result = f"{self.search.args.objective} {abs(self.search.score(folds)):.4f}"
        if len(folds) < len(self.search.plans) and folds:
            result += f", pruned after {len(folds)} of {len(self.search.plans)} models"
        self.seconds.append((trial.datetime_complete - trial.datetime_start).total_seconds())
        left = (self.total - done) * statistics.mean(self.seconds) / 60
        print(
            f"{done}/{self.total}: {settings}: {result}, {self.seconds[-1]:.0f} s; about "
            f"{left:.0f} min left for one worker",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
