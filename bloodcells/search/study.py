"""A search's study in a database: opened, shared by workers, continued after any interruption.

The search has slots, numbered from zero, and one finished trial fills each. Workers take turns
under a database lock, so no slot is assigned twice. A worker sends heartbeats while it trains. If
another worker sees none for `GRACE` seconds, it ends the trial and assigns its slot again, with the
settings and the models that the trial had. (Optuna's `GridSampler` and heartbeat alone can train a
combination of settings twice, or lose one, when workers die.)
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import filelock
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from bloodcells.errors import UserError
from bloodcells.training.locks import refuse_without_locks

BEAT, GRACE = 10.0, 60.0  # seconds between heartbeats; silence that means death
PATIENCE = 300.0  # seconds to wait for a server that does not answer
POLL: float = 2  # seconds between checks on other workers
DAMAGED = (LookupError, TypeError, ValueError, AttributeError)  # what reading odd entries raises
MOST_DEATHS = 10  # a slot is given up after more dead trials than this
SEARCH = "search"  # the study's attribute that describes its search

Objective = Callable[[optuna.Trial], float]


class AwayError(UserError):
    """The database's server does not answer."""


def read_url(text: str) -> URL:
    """Parse a database URL. Raises `UserError` if it is malformed or not supported."""
    try:
        url = sqlalchemy.engine.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise UserError(
            "--storage: not the URL of a database, such as postgresql://user@host/database"
        ) from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UserError(f"--storage {url}: neither sqlite nor postgresql")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError("--storage: name a file, as in sqlite:///study.db, to be shared and kept")
    return url


class Database:
    """Where a study is kept, and the lock under which its workers take turns."""

    def __init__(self, url: str | None, default: Path):
        """`default` is the file to use if no URL is given. Raises `UserError`."""
        self.url = read_url(url) if url else URL.create("sqlite", database=str(default))
        self.is_file = self.url.drivername == "sqlite"
        options = {"timeout": 60} if self.is_file else {"connect_timeout": 20}
        self.options = {"connect_args": options}

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock: the other workers of this database wait."""
        if self.is_file:
            with filelock.FileLock(f"{self.url.database}.lock"):
                yield
            return
        engine = sqlalchemy.create_engine(self.url, poolclass=NullPool, **self.options)
        with engine.begin() as connection:  # the lock ends with the transaction
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(20231128)"))
            yield

    @contextmanager
    def errors(self, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Turn database errors, and those of the kinds `also`, into a one-line `UserError`."""
        kinds: tuple[type[Exception], ...]
        kinds = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, *also)
        try:
            yield
        except kinds as error:
            chain: list[BaseException] = [error]
            while (cause := chain[-1].__cause__) is not None:
                chain.append(cause)
            away = any(isinstance(one, sqlalchemy.exc.OperationalError) for one in chain)
            reason = " ".join(f"{type(chain[-1]).__name__}: {chain[-1]}".split())[:200]
            kind = AwayError if away and not self.is_file else UserError
            raise kind(f"--storage {self}: {reason}") from error

    def study(self, name: str, search: dict) -> optuna.Study:
        """Open the study, or create it. Raises `UserError` if that fails.

        `search` describes the space and the settings. A study of another search is refused and left
        unchanged.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if self.is_file and not Path(cast(str, self.url.database)).parent.is_dir():
            raise UserError(f"--storage {self}: its folder does not exist")
        try:
            if self.is_file:
                refuse_without_locks(Path(cast(str, self.url.database)).parent)
            with self.errors(DAMAGED), self.turn():
                return self.study_in_turn(name, search)
        except ImportError as error:
            raise UserError(
                f"--storage {self}: its driver is not installed; run "
                "python -m pip install 'psycopg[binary]'"
            ) from error
        except (OSError, RuntimeError) as error:  # no such folder; another Optuna version
            raise UserError(f"--storage {self}: {error}") from error

    def study_in_turn(self, name: str, search: dict) -> optuna.Study:
        """`study` itself; call it while holding the lock."""
        text = self.url.render_as_string(hide_password=False)
        text = text.replace("{", "{{").replace("}", "}}")  # Optuna would read a template
        storage = optuna.storages.RDBStorage(text, engine_kwargs=self.options)
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        there = study.user_attrs.get(SEARCH)
        if there is None and not study.trials:
            study.set_user_attr(SEARCH, search)
            return study
        there = there or {}
        if other := sorted(
            k for k in there.keys() | search.keys() if there.get(k) != search.get(k)
        ):
            raise UserError(
                f"--storage {self}: its study {name} belongs to another search (different "
                f"{', '.join(other)}); pass another --output, or that search's settings"
            )
        return study


class Worker:
    """One process at work on a study of `total` slots.

    `prepare` is called with a slot before its new trial is drawn; it may set the study's sampler,
    and returns the parameters that are fixed, by name.
    """

    def __init__(
        self, database: Database, study: optuna.Study, total: int, prepare: Callable[[int], dict]
    ):
        self.database, self.study, self.total, self.prepare = database, study, total, prepare
        self.seen: dict[int, tuple[object, float]] = {}  # last heartbeat, and when first seen
        self.told = ""  # the last message that might repeat

    def run(self, objective: Objective, report: Callable[[FrozenTrial, int], None]) -> None:
        """Work until every slot is filled, by this process or others.

        `report` is called with each trial that this process ends and the number of filled slots.
        Raises `UserError` if the database fails, or its server is away for `PATIENCE` seconds.
        """
        since = None  # when the server stopped to answer
        while True:
            try:
                if self.take_turn(objective, report):
                    return
                since = None
            except AwayError as error:
                since = since or time.monotonic()
                if time.monotonic() - since > PATIENCE:
                    raise
                self.tell_once(f"{error}; trying again for {PATIENCE:g} s")
                time.sleep(POLL)

    def take_turn(self, objective: Objective, report: Callable[[FrozenTrial, int], None]) -> bool:
        """Take a trial and run it, or wait if there is none; returns whether all are done."""
        with self.database.errors((*DAMAGED, OSError)), self.database.turn():
            trial = self.take()
            filled = len(self.filled())
        if filled >= self.total:
            return True
        if trial is None:  # others are at work on the rest
            self.tell_once("waiting for the trials of other workers")
            time.sleep(POLL)
            return False
        with self.database.errors():
            if self.train(trial, objective):
                frozen = self.study.get_trials(deepcopy=False)[trial.number]
                report(frozen, len(self.filled()))
        return False

    def tell_once(self, message: str) -> None:
        """Print a message, unless it is the last one again."""
        if message != self.told:
            print(message, flush=True)
        self.told = message

    def train(self, trial: optuna.Trial, objective: Objective) -> bool:
        """Run a trial and store its result; returns False if another worker took it over."""
        try:
            with signs_of_life(trial):
                value, state = objective(trial), TrialState.COMPLETE
        except optuna.TrialPruned:
            value, state = None, TrialState.PRUNED
        except UserError as error:  # settings that can't be trained
            value, state = None, TrialState.FAIL
            trial.set_user_attr("failed", str(error))
        except KeyboardInterrupt as error:
            # its slot is free again, if no other worker has it
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise KeyboardInterrupt("stopped; the same command goes on with the search") from error
        except optuna.exceptions.UpdateFinishedTrialError:
            value, state = None, None
        with self.database.errors(DAMAGED):
            return self.ended(trial, value, state)

    def ended(self, trial: optuna.Trial, value: float | None, state: TrialState | None) -> bool:
        """Store how a trial ended; returns False if another worker took it over."""
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        if state is None or frozen.state.is_finished():
            print(
                f"trial {trial.number} sent no heartbeat for over {GRACE:g} s: another worker "
                "has taken it over",
                file=sys.stderr,
            )
            return False
        self.study.tell(trial, value, state)
        return True

    def take(self) -> optuna.Trial | None:
        """A trial for a free slot, or None if there is none; call it while holding the lock."""
        self.bury()
        trials = self.study.get_trials(deepcopy=False)
        if not any(trial.state == TrialState.WAITING for trial in trials):
            slots: dict[int, list[FrozenTrial]] = {number: [] for number in range(self.total)}
            for trial in trials:
                if trial.user_attrs.get("slot") in slots:
                    slots[trial.user_attrs["slot"]].append(trial)
            free = (slot for slot, there in slots.items() if all(map(is_dead, there)))
            slot = next((slot for slot in free if len(slots[slot]) <= MOST_DEATHS), None)
            if slot is None:
                return None
            given, kept = self.prepare(slot), {"slot": slot}
            if slots[slot]:  # continue with the dead trial's settings and models
                given |= slots[slot][-1].params  # none if it died before it drew them
                kept = {k: v for k, v in slots[slot][-1].user_attrs.items() if k != "alive"}
            self.study.enqueue_trial(given, user_attrs=kept)
        return self.study.ask()  # the first waiting trial

    def bury(self) -> None:
        """End the trials whose heartbeats have stopped."""
        now = time.monotonic()
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            sign = trial.user_attrs.get("alive")
            known = self.seen.get(trial.number)
            if known is None or known[0] != sign:
                self.seen[trial.number] = sign, now
            elif now - known[1] > GRACE:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def filled(self) -> list[FrozenTrial]:
        """The trial of each slot that is filled or given up, in slot order."""
        found: dict[int, FrozenTrial] = {}
        deaths: dict[int, int] = {}
        for trial in self.study.get_trials(deepcopy=False):
            slot = trial.user_attrs.get("slot")
            if slot is None or slot >= self.total:
                continue
            if trial.state.is_finished() and not is_dead(trial):
                found.setdefault(slot, trial)
            elif is_dead(trial):
                deaths[slot] = deaths.get(slot, 0) + 1
                if deaths[slot] > MOST_DEATHS:
                    found.setdefault(slot, trial)
        return [found[slot] for slot in sorted(found)]


def is_dead(trial: FrozenTrial) -> bool:
    """Whether the trial ended with its worker, so that its slot is free again."""
    return trial.state == TrialState.FAIL and "failed" not in trial.user_attrs


@contextmanager
def signs_of_life(trial: optuna.Trial) -> Iterator[None]:
    """Send heartbeats from a thread while the block runs.

    Optuna's own heartbeat stops at the first database error, such as a server restart.
    """
    over = threading.Event()

    def show() -> None:
        sign = 0
        while not over.wait(BEAT):
            sign += 1
            try:
                trial.set_user_attr("alive", sign)
            except Exception as error:  # a database error, or another took the trial: try again
                print(f"a heartbeat could not be sent: {type(error).__name__}", file=sys.stderr)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
