"""Workers that share one study, die, sleep, and lose their database."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import optuna
import pytest
import search_worker
import warm
from disk_faults import EVERY
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from bloodcells.errors import UserError
from bloodcells.search import database as databases
from bloodcells.search import study as shared_study
from bloodcells.search.database import AwayError, Database, StorageError


def begun(folder):
    """Who began which slot, as (process, slot), in order."""
    lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def three_workers_of_which_two_are_killed(url, folder):
    """Two die in their first trials; the third fills all slots, each once."""
    workers = []

    def begin(seconds):
        more = (url, folder, 6, seconds)
        workers.append(warm.server.Process(target=search_worker.work, args=more))
        workers[-1].start()

    def wait_for_all():
        deadline = time.monotonic() + 60
        while not {one.pid for one in workers} <= {pid for pid, _ in begun(folder)}:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    try:
        begin(600)  # neither this one nor the next ends its trial
        begin(600)
        wait_for_all()
        begin(0.1)
        wait_for_all()
        for victim in workers[:2]:
            os.kill(victim.pid, signal.SIGKILL)
        workers[2].join(60)
        assert workers[2].exitcode == 0
    finally:
        for worker in workers:
            warm.ended(worker, seconds=0)
    slots = [slot for pid, slot in begun(folder) if pid == workers[2].pid]
    assert sorted(slots) == list(range(6))


def test_workers_share_a_file_and_survive_kills(tmp_path):
    three_workers_of_which_two_are_killed(None, tmp_path)


def test_workers_share_postgresql_and_survive_kills(tmp_path, postgresql):
    three_workers_of_which_two_are_killed(postgresql, tmp_path)


class Server:
    """A PostgreSQL server of the test's own, which it may restart."""

    def __init__(self, folder, programs):
        self.folder, self.programs, self.data = folder, programs, folder / "data"
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
        self.call("initdb", "--auth", "trust", "--username", "postgres", "--pgdata", self.data)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def call(self, program, *arguments):
        command = [self.programs / program, *map(str, arguments)]
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*user, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)

    def control(self, *action):
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port}"
        options += f" -c unix_socket_directories={self.folder}"
        log = self.folder / "log"
        self.call("pg_ctl", "--wait", "--pgdata", self.data, "--log", log, "-o", options, *action)


@pytest.fixture
def server():
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # open to the server's user
    started = Server(folder, programs[-1].parent)
    started.control("start")
    yield started
    started.control("--mode", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.mark.skipif(not EVERY, reason="a minute of work, for make test-faults")
def test_eight_workers_killed_in_turn_and_the_server_restarted(tmp_path, server):
    """Each worker dies in the middle of a trial and is replaced; no trial is lost or kept twice."""
    total = 60

    def begin():
        arguments = (server.url, tmp_path, total, 1)
        process = warm.server.Process(target=search_worker.work, args=arguments)
        process.start()
        return process

    workers = [begin() for _ in range(8)]
    deadline = time.monotonic() + 300
    while not {worker.pid for worker in workers} <= {pid for pid, _ in begun(tmp_path)}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for number, victim in enumerate(list(workers)):
        assert victim.is_alive()  # also after the restart
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        workers.append(begin())
        if number == 3:
            server.control("--mode", "immediate", "restart")
            time.sleep(5)
    workers.append(begin())  # one that began while the server was away has ended
    for worker in workers[8:]:
        worker.join(max(0, deadline - time.monotonic()))
    assert workers[-1].exitcode == 0
    everything = Database(server.url, tmp_path).study("sleep", {"version": 1}).trials
    complete = [t.params["slot"] for t in everything if t.state == TrialState.COMPLETE]
    assert sorted(complete) == list(range(total))


def test_a_worker_that_hangs_in_its_turn_on_postgresql_does_not_keep_the_others_waiting(
    postgresql, monkeypatch, tmp_path
):
    monkeypatch.setattr(databases, "MOST_IDLE", 1)
    hanging, other = (search_worker.sole(tmp_path, postgresql).database for _ in range(2))
    entered = []
    with pytest.raises(AwayError, match="idle"), hanging.errors(), hanging.turn(), other.turn():
        entered.append("the server has ended the first one's session")
    assert entered


def test_silence_counts_only_while_one_listens(tmp_path, monkeypatch):
    """After its own training, a worker may not have heard the others' heartbeats."""
    worker, now = search_worker.sole(tmp_path), [1000.0]
    monkeypatch.setattr(shared_study.time, "monotonic", lambda: now[0])
    with worker.database.turn():
        worker.study.ask()  # another worker's, which was away with the server
    running = {TrialState.RUNNING}
    for wait, states in ((0, running), (500, running), (29, running), (29, running)):
        now[0] += wait
        worker.bury()
        assert {trial.state for trial in worker.study.trials} == states
    now[0] += 29
    worker.bury()
    assert {trial.state for trial in worker.study.trials} == {TrialState.FAIL}


def test_trial_taken_over_while_alive(tmp_path, capsys):
    worker = search_worker.sole(tmp_path)

    def objective(trial):
        if trial.number == 0:  # this process slept, and another one buried it
            worker.study.tell(0, state=TrialState.FAIL)
        return 1.0

    worker.run(objective, lambda trial, done: None)
    assert "another worker has taken it over" in capsys.readouterr().err
    assert [trial.number for trial in worker.filled()] == [1, 2]


def test_ctrl_c_while_the_database_is_away(tmp_path, monkeypatch):
    """It stops the worker, which otherwise waits for the database."""
    worker = search_worker.sole(tmp_path)

    def away(*arguments):
        raise StorageInternalError("away") from OperationalError("", {}, Exception("refused"))

    def stopped(trial):
        monkeypatch.setattr(type(trial), "set_user_attr", away)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        worker.run(stopped, lambda trial, done: None)


def test_a_server_that_is_away_is_waited_for_but_not_for_ever(tmp_path, monkeypatch, capsys):
    worker, away = search_worker.sole(tmp_path), AwayError("away")
    turns = iter([away, away, 5])

    def turn():
        if isinstance(found := next(turns), Exception):
            raise found
        return found

    monkeypatch.setattr(databases, "RETRY", 0)
    assert worker.database.patiently(turn) == 5
    assert capsys.readouterr().out == "away; trying again for 300 s\n"  # once
    turns = itertools.repeat(away)
    monkeypatch.setattr(databases, "PATIENCE", 0.01)
    with pytest.raises(StorageError, match="away"):
        worker.database.patiently(turn)


def test_a_second_outage_is_waited_for_as_the_first_one(tmp_path, monkeypatch):
    worker, now = search_worker.sole(tmp_path), [1000.0]
    waits = iter([0, databases.PATIENCE + 9, 0])  # seconds that each call lasts

    def call():
        now[0] += next(waits)
        if calls := next(left):
            raise AwayError(f"away {calls}")
        return 5

    left = iter([1, 2, 0])
    monkeypatch.setattr(databases.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(databases, "RETRY", 0)
    assert worker.database.patiently(call) == 5


def test_a_failure_of_the_database_is_not_one_of_the_settings(tmp_path):
    worker = search_worker.sole(tmp_path)

    def full():
        raise StorageInternalError("the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        worker.run(lambda trial: worker.database.patiently(full), None)
    assert shared_study.FAILED not in worker.study.trials[0].user_attrs


def test_results_are_stored_after_an_outage(tmp_path, monkeypatch):
    """The trial that ended meanwhile is not trained again."""
    worker, tell = search_worker.sole(tmp_path), optuna.Study.tell
    outages = iter([True, True])

    def away_at_first(*given, **more):
        if next(outages, False):
            raise StorageInternalError("away") from OperationalError("", {}, Exception("refused"))
        return tell(*given, **more)

    monkeypatch.setattr(worker.database, "is_file", False)  # a server's failure
    monkeypatch.setattr(worker.database, "turn", nullcontext)
    monkeypatch.setattr(optuna.Study, "tell", away_at_first)
    monkeypatch.setattr(databases, "RETRY", 0)
    worker.run(lambda trial: 1.0, lambda trial, done: None)
    assert [trial.state for trial in worker.study.trials] == [TrialState.COMPLETE] * 2


def test_database_that_fails_meanwhile(tmp_path):
    worker = search_worker.sole(tmp_path)

    def objective(trial):
        (tmp_path / "a.db").write_text("no database any more " * 1000)
        trial.set_user_attr("x", 1)

    with pytest.raises(UserError, match=r"--storage sqlite:///.*a.db: "):
        worker.run(objective, lambda trial, done: None)
