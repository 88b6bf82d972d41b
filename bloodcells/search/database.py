"""Where a search's study is kept: a database, opened, locked, and its errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

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
        raise UserError(f"--storage {url.drivername}: neither sqlite nor postgresql")
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
                f"{', '.join(other)}); pass another --output, or that search's settings"
            )
        return study
