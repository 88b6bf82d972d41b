"""A search's study: its trials, shared by workers, and continued after any interruption.

The search has slots, numbered from zero, and one finished trial fills each. Workers take turns
under a database lock, so no slot is assigned twice. A worker sends heartbeats while it trains. If
another worker sees none for `GRACE` seconds, it ends the trial and assigns its slot again, with the
settings and the models that the trial had. A trial that lacked memory is tried again, too.
(Optuna's `GridSampler` and heartbeat alone can train a combination of settings twice, or lose one,
when workers die.)
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import optuna
from optuna.trial import FrozenTrial, TrialState

from bloodcells.cli.endings import out_of_memory
from bloodcells.errors import UserError
from bloodcells.search.database import DAMAGED, Database, StorageError

BEAT, GRACE = 10.0, 60.0  # seconds between heartbeats; silence that means death
POLL: float = 2  # seconds between checks on other workers
# a slot is given up after more trials than this that died, or lacked memory, without a new model
MOST_DEATHS, MOST_LACKS = 10, 2
REST = 60.0  # seconds before a worker tries a slot again for which it lacked memory
TAKEN_OVER = optuna.exceptions.UpdateFinishedTrialError  # another worker ended the trial
# attributes of a trial: its last heartbeat; ended by Ctrl-C; its memory was too small; its settings
# can't be trained; the histories of its models; the machine that trained the last of them
ALIVE, STOPPED, LACKED, FAILED, MODELS = "alive", "stopped", "lacked", "failed", "folds"
ENVIRONMENT = "environment"

Objective = Callable[[optuna.Trial], float]


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
        self.looked = 0.0  # when it last looked for them
        self.before: int | None = None  # trials that were there when this worker began
        self.lacked: dict[int, float] = {}  # slots for which memory was lacking here, and when
        self.told_to_wait = False

    def run(self, objective: Objective, report: Callable[[FrozenTrial, int], None]) -> None:
        """Work until every slot is filled, by this process or others.

        `report` is called with each trial that this process ends and the number of filled slots.
        Raises `UserError` if the database fails, or its server is away for too long.
        """
        while not self.database.patiently(lambda: self.take_turn(objective, report)):
            pass

    def take_turn(self, objective: Objective, report: Callable[[FrozenTrial, int], None]) -> bool:
        """Take a trial and run it, or wait if there is none; returns whether all are done."""
        with self.database.errors((*DAMAGED, OSError)), self.database.turn():
            trial = self.take()
            filled = len(self.filled())
        if filled >= self.total:
            return True
        if trial is None:  # others are at work on the rest
            if not self.told_to_wait:
                print("waiting for the trials of other workers, or for memory", flush=True)
            self.told_to_wait = True
            time.sleep(POLL)
            return False
        self.told_to_wait = False
        with self.database.errors():
            if self.train(trial, objective):
                frozen = self.study.get_trials(deepcopy=False)[trial.number]
                report(frozen, len(self.filled()))
        return False

    def train(self, trial: optuna.Trial, objective: Objective) -> bool:
        """Run a trial and store its result; returns False if another worker took it over."""
        try:
            value, state = outcome(trial, objective)
            if LACKED in trial.user_attrs:
                self.lacked[trial.user_attrs["slot"]] = time.monotonic()
        except KeyboardInterrupt as error:
            self.give_back(trial)
            raise KeyboardInterrupt("stopped; the same command goes on with the search") from error
        except TAKEN_OVER:
            value, state = None, None
        with self.database.errors(DAMAGED):
            return self.database.patiently(lambda: self.ended(trial, value, state))

    def give_back(self, trial: optuna.Trial) -> None:
        """Free the slot of a trial that Ctrl-C stopped, if no other worker has it.

        If the database does not answer, the trial's silence frees it.
        """
        with suppress(UserError, TAKEN_OVER), self.database.errors():
            trial.set_user_attr(STOPPED, True)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def ended(self, trial: optuna.Trial, value: float | None, state: TrialState | None) -> bool:
        """Store how a trial ended; returns False if another worker took it over."""
        told = None
        with suppress(TAKEN_OVER):  # between the reading and the writing of its state
            if state is not None:
                told = self.study.tell(trial, value, state, skip_if_finished=True)
        if told is not None and told.state == state:
            return True
        print(
            f"trial {trial.number} sent no heartbeat for over {GRACE:g} s: another worker "
            "has taken it over",
            file=sys.stderr,
        )
        return False

    def take(self) -> optuna.Trial | None:
        """A trial for a free slot, or None if there is none; call it while holding the lock."""
        self.bury()
        trials = self.study.get_trials(deepcopy=False)
        if self.before is None:
            self.before = len(trials)
        waiting = next((one for one in trials if one.state == TrialState.WAITING), None)
        if waiting:  # its worker died before it began
            self.prepare(waiting.user_attrs["slot"])
        else:
            slots = self.by_slot(trials)
            free = [
                slot
                for slot, there in slots.items()
                if all(map(is_dead, there)) and not self.gave_up(there) and not self.rests(slot)
            ]
            if not free:
                return None
            # those that lacked memory last: there may be more by then
            slot = min(free, key=lambda slot: len(lacking(slots[slot])))
            given, kept = self.prepare(slot), {"slot": slot}
            if slots[slot]:  # continue with the dead trial's settings and models
                last = slots[slot][-1]
                # it may have died before it drew all of them, and before it drew those given to it
                given |= last.system_attrs.get("fixed_params", {}) | last.params
                own = (ALIVE, STOPPED, LACKED)
                kept = {k: v for k, v in last.user_attrs.items() if k not in own}
            self.study.enqueue_trial(given, user_attrs=kept)
        return self.study.ask()  # the first waiting trial

    def rests(self, slot: int) -> bool:
        """Whether memory was lacking for a slot here a moment ago."""
        return slot in self.lacked and time.monotonic() - self.lacked[slot] < REST

    def bury(self) -> None:
        """End the trials whose heartbeats have stopped.

        Silence counts only while this worker looks often: after a break, such as a training or an
        outage of the server, it may just not have heard them.
        """
        now = time.monotonic()
        if now - self.looked > GRACE / 2:
            self.seen.clear()
        self.looked = now
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            sign = trial.user_attrs.get(ALIVE)
            known = self.seen.get(trial.number)
            if known is None or known[0] != sign:
                self.seen[trial.number] = sign, now
            elif now - known[1] > GRACE:
                with suppress(TAKEN_OVER):
                    self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def filled(self) -> list[FrozenTrial]:
        """The trial of each slot that is filled or given up, in slot order."""
        found = []
        for trials in self.by_slot(self.study.get_trials(deepcopy=False)).values():
            alive = [one for one in trials if not is_dead(one)]
            if ended := [one for one in alive if one.state.is_finished()]:
                found.append(ended[0])
            elif not alive and self.gave_up(trials):
                found.append(trials[-1])
        return found

    def gave_up(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether too many trials of a slot died without a new model for it to be tried again.

        A stop is no death. A lack of memory counts only since this worker began: there may be more
        than before.
        """
        dead = [trial for trial in trials if is_dead(trial) and STOPPED not in trial.user_attrs]
        stuck = [t for t in dead if t.user_attrs.get(MODELS) == dead[-1].user_attrs.get(MODELS)]
        lacks = lacking(stuck)
        lately = [trial for trial in lacks if trial.number >= (self.before or 0)]
        return len(stuck) - len(lacks) > MOST_DEATHS or len(lately) > MOST_LACKS

    def by_slot(self, trials: Sequence[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
        """The trials of each slot, in order."""
        slots: dict[int, list[FrozenTrial]] = {number: [] for number in range(self.total)}
        for trial in trials:
            if trial.user_attrs.get("slot") in slots:
                slots[trial.user_attrs["slot"]].append(trial)
        return slots


def outcome(trial: optuna.Trial, objective: Objective) -> tuple[float | None, TrialState]:
    """Run a trial; returns its value and how it ended."""
    try:
        with signs_of_life(trial):
            return objective(trial), TrialState.COMPLETE
    except optuna.TrialPruned:
        return None, TrialState.PRUNED
    except StorageError:
        raise
    except UserError as error:  # settings that can't be trained
        trial.set_user_attr(FAILED, str(error))
    except (RuntimeError, MemoryError) as error:
        if not (lack := out_of_memory(error)):
            raise
        trial.set_user_attr(LACKED, lack)
    return None, TrialState.FAIL


def is_dead(trial: FrozenTrial) -> bool:
    """Whether the trial ended with its worker or its memory, so that its slot is free again."""
    return trial.state == TrialState.FAIL and FAILED not in trial.user_attrs


def lacking(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials whose memory was too small."""
    return [trial for trial in trials if LACKED in trial.user_attrs]


def failure(trial: FrozenTrial) -> str | None:
    """Why a trial has no result; None if it has one, or was pruned."""
    if trial.state != TrialState.FAIL:
        return None
    return trial.user_attrs.get(FAILED) or trial.user_attrs.get(LACKED, "its workers died")


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
                trial.set_user_attr(ALIVE, sign)
            except Exception as error:  # a database error, or another took the trial: try again
                print(f"a heartbeat could not be sent: {type(error).__name__}", file=sys.stderr)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
