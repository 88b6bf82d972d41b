"""Where a search's study is kept: a database, opened, locked, and its errors in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import filelock
import optuna
import sqlalchemy
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from bloodcells.errors import UserError, without_passwords
from bloodcells.training.locks import refuse_without_locks

# what reading odd entries raises
DAMAGED = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
IDENTITY = "search"  # the study's attribute that describes its search
PATIENCE, RETRY = 300.0, 2.0  # seconds to wait for a server that does not answer; between tries
MOST_IDLE = 60  # seconds, after which a server releases the lock of a worker that fell silent

Result = TypeVar("Result")


class StorageError(UserError):
    """The database failed."""


class AwayError(StorageError):
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
        raise UserError(f"--storage {url.drivername}: neither sqlite nor postgresql")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError("--storage: name a file, as in sqlite:///study.db, to be shared and kept")
    return url


class Database:
    """Where a study is kept, and the lock under which its workers take turns."""

    def __init__(self, url: str | None, default: Path):
        """`default` is the file to use if no URL is given. Raises `UserError`."""
        self.url = read_url(url) if url else URL.create("sqlite", database=str(default))
        self.is_file, self.is_default = self.url.drivername == "sqlite", not url
        # a connection that is cut off fails after a minute; otherwise it would hang for hours
        server = {"connect_timeout": 20, "keepalives_idle": 20, "tcp_user_timeout": 60_000}
        self.options = {"connect_args": {"timeout": 60} if self.is_file else server}

    def __str__(self) -> str:
        return without_passwords(self.url.render_as_string(hide_password=True))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock: the other workers of this database wait."""
        if self.is_file:
            with filelock.FileLock(f"{self.url.database}.lock"):
                yield
            return
        engine = sqlalchemy.create_engine(self.url, poolclass=NullPool, **self.options)
        with engine.begin() as connection:  # the lock ends with the transaction
            longest = f"SET LOCAL idle_in_transaction_session_timeout = '{MOST_IDLE}s'"
            for statement in (longest, "SELECT pg_advisory_xact_lock(20231128)"):
                connection.execute(sqlalchemy.text(statement))
            yield

    def patiently(self, call: Callable[[], Result]) -> Result:
        """Call it; while the server is away, call it again. Raises `StorageError`.

        It does so after `PATIENCE` seconds, and at once if the database fails otherwise. A call
        that lasted longer had the server meanwhile, so another outage began.
        """
        since, told = None, ""
        while True:
            began = time.monotonic()
            try:
                with self.errors():
                    return call()
            except AwayError as error:
                now = time.monotonic()
                if since is None or now - began > PATIENCE:
                    since, told = now, ""
                if now - since > PATIENCE:
                    raise StorageError(str(error)) from error
                if str(error) != told:
                    told = str(error)
                    print(f"{told}; trying again for {PATIENCE:g} s", flush=True)
                time.sleep(RETRY)

    @contextmanager
    def errors(self, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Turn database errors, and those of the kinds `also`, into a one-line `StorageError`."""
        kinds: tuple[type[Exception], ...]
        kinds = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, *also)
        try:
            yield
        except kinds as error:
            chain: list[BaseException] = [error]
            while (cause := chain[-1].__cause__) is not None:
                chain.append(cause)
            ended = sqlalchemy.exc.OperationalError, sqlalchemy.exc.InternalError  # by the server
            away = any(isinstance(one, ended) for one in chain)
            reason = " ".join(f"{type(chain[-1]).__name__}: {chain[-1]}".split())[:200]
            kind = AwayError if away and not self.is_file else StorageError
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
                flag = "--output" if self.is_default else "--storage"
                refuse_without_locks(Path(cast(str, self.url.database)).parent, flag)
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
        names = optuna.get_all_study_names(storage)
        if self.is_default and len(names) == 1:  # perhaps of the name that its folder had before
            name = names[0]
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        there = study.user_attrs.get(IDENTITY)
        if there is None and not study.trials:
            study.set_user_attr(IDENTITY, search)
            return study
        there = there or {}
        if other := sorted(
            k for k in there.keys() | search.keys() if there.get(k) != search.get(k)
        ):
            raise UserError(
                f"--storage {self}: its study {name} belongs to another search (different "
                f"{', '.join(other)}); pass another --output, or that search's "
                f"{'code' if other == ['code'] else 'settings'}"
            )
        return study
