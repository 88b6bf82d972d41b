"""A search's study in a database: opened, shared by workers, continued after any interruption.

A trial that ends by itself is done, whatever its end. One whose process died shows by its missing
heartbeat and is queued again, by whichever worker notices first.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from command_line import UserError

HEARTBEAT, GRACE = 10, 30  # seconds between signs of life; without one for so long is dead
POLL = 2  # seconds between looks at what other workers do
SEARCH = "search"  # the attribute of a study that says what it searches


class SurplusError(Exception):
    """A trial too many, begun by two workers at once."""


def open_study(url: str, name: str, search: dict) -> optuna.Study:
    """Open the study, or create it. Raises `UserError` where that can't be done.

    `search` describes space and settings; a study that was made of others is left as it is.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    with storage_errors(url):
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        storage = RDBStorage(
            url,
            engine_kwargs={"pool_pre_ping": True, **options},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        there = study.user_attrs.get(SEARCH)
        if there is None:
            study.set_user_attr(SEARCH, search)
            return study
    if differing := sorted(
        k for k in there.keys() | search.keys() if there.get(k) != search.get(k)
    ):
        raise UserError(
            f"--storage {masked(url)}: its study {name} is of another search (other "
            f"{', '.join(differing)}); pass another --output, or its own settings"
        )
    return study


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """What goes wrong with a database, as a `UserError` of one line."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"--storage {masked(url)}: its driver is not installed; for PostgreSQL: "
            "python -m pip install 'psycopg[binary]' and a URL of postgresql+psycopg://"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, optuna.exceptions.OptunaError) as error:
        cause = str(getattr(error, "orig", None) or error).split("\n")[0]
        raise UserError(f"--storage {masked(url)}: {cause}") from error


def masked(url: str) -> str:
    """A database's URL without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url


def run(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    total: int,
    report: Callable[[FrozenTrial, int], None],
) -> None:
    """Take part in the study until `total` trials are done, by this process and others.

    `report` takes each trial of this process when it is done, and how many then are done in all.
    """

    number = None  # of this process's latest trial

    def guarded(trial: optuna.Trial) -> float:
        """The objective, if fewer than `total` trials came before."""
        nonlocal number
        number = trial.number
        if sum(earlier.number < number for earlier in kept(study)) >= total:
            raise SurplusError
        try:
            return objective(trial)
        except UserError as error:
            trial.set_user_attr("failed", str(error))
            raise

    while True:
        optuna.storages.fail_stale_trials(study)
        trials = kept(study)
        if sum(map(is_done, trials)) >= total:
            return
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if len(trials) >= total and not waiting:  # others are at work on the rest
            time.sleep(POLL)
            continue
        try:
            study.optimize(guarded, n_trials=1, catch=(SurplusError, UserError))
        except KeyboardInterrupt:  # as a trial that died: it is to be made again
            RetryHeartbeatStaleTrialCallback()(study, study.get_trials()[number])
            raise
        trial = study.get_trials(deepcopy=False)[number]
        if is_done(trial):
            report(trial, sum(map(is_done, kept(study))))


def is_done(trial: FrozenTrial) -> bool:
    """Whether a trial came to its own end: a result, pruned, or settings that can't be trained."""
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return ended or (trial.state == TrialState.FAIL and "failed" in trial.user_attrs)


def kept(study: optuna.Study) -> list[FrozenTrial]:
    """All trials but those that died or were too many."""
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state != TrialState.FAIL or is_done(t)]
