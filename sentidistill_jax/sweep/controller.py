"""The loop of a sweep: starts trials, watches them, and says who goes on.

All that it knows is in Optuna's storage and in the folders of the trials, so that another one goes
on where this one was killed: trials that still run are adopted, the others are resumed.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import Trial

from sentidistill_jax.errors import EXIT_RESTART
from sentidistill_jax.sweep import halving
from sentidistill_jax.sweep.brain import Brain
from sentidistill_jax.sweep.hands import Hands
from sentidistill_jax.sweep.measures import last_sentence, looks, measures
from sentidistill_jax.sweep.space import Assignment, Label
from sentidistill_jax.sweep.trials import Task, TrialRun
from sentidistill_jax.workdir import Workdir

MOST_RESTARTS = 3  # of a trial that comes no further
_POLL_SECONDS = 0.5

Prepare = Callable[[int, Assignment], TrialRun]


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much a sweep may do, in all runs of the controller together."""

    trials: int  # that are begun
    workers: int = 1  # trials that run at a time
    minutes: float = math.inf  # of running trials, all workers together


class _Live:
    """A trial without an end yet; what must outlive the controller is in its attributes."""

    def __init__(self, trial: Trial, run: TrialRun):
        self.trial, self.run = trial, run
        self.slot: int | None = None  # of the worker that runs it
        self.since = 0.0
        self.stops_for = ""  # why it was asked to stop

    def get(self, name: str) -> Any:
        return self.trial.user_attrs.get(name, 0)

    def set(self, **values: object) -> None:
        for name, value in values.items():
            self.trial.set_user_attr(name, value)

    @property
    def seconds(self) -> float:
        running = 0.0 if self.slot is None else time.monotonic() - self.since
        return self.get("seconds") + running

    @property
    def task(self) -> Task:
        return self.run.tasks[self.get("step")]

    @property
    def folder(self) -> pathlib.Path:
        return self.task.folder


class Controller:
    """Runs a sweep to its end.

    Args:
      brain: Chooses and remembers trials.
      hands: Runs their commands.
      prepare: Lays out a trial, by number.
      limits: How much it may do.
      say: Shows a line of progress.
      stopped: Asked in every round; True ends the sweep, trials with a checkpoint.
    """

    def __init__(
        self,
        brain: Brain,
        hands: Hands,
        prepare: Prepare,
        limits: Limits,
        *,
        say: Callable[[str], None] = print,
        stopped: Callable[[], bool] = lambda: False,
    ):
        self._brain, self._hands, self._prepare = brain, hands, prepare
        self._limits, self._say, self._stopped = limits, say, stopped
        self._halving = brain.plan.halving
        self._running: list[_Live] = []
        self._ready: list[_Live] = []  # to be started before anything new
        self._paused: list[_Live] = []  # at a rung

    def run(self) -> None:
        """Returns when all is done, the budget is spent or it was told to stop."""
        self._adopt()
        while True:
            for live in list(self._running):
                code = self._hands.exit_code(live.folder)
                if code is None:
                    self._watch(live)
                else:
                    self._ended(live, code)
            if self._stopped() or self._spent_minutes() >= self._limits.minutes:
                break
            self._fill()
            if not self._running:
                self._prune_paused()
                return
            time.sleep(_POLL_SECONDS)
        self._stop_all()

    def _adopt(self) -> None:
        for trial, assignment in self._brain.begun():
            live = self._prepared(trial, assignment)
            if live is None:
                continue
            if self._hands.runs(live.folder) and not self._waits(live):
                self._say(f"trial {trial.number} still runs")
                self._takes_slot(live)
            elif live.get("paused"):
                self._paused.append(live)
            elif self._goes_on(live):
                self._ready.append(live)
            else:
                self._pause(live)

    def _fill(self) -> None:
        while len(self._running) < self._limits.workers:
            live = next((one for one in self._ready if not self._waits(one)), None)
            if live is not None:
                self._ready.remove(live)
            elif len(self._ready) < self._limits.workers:
                live = self._promoted() or self._new()
            if live is None:
                return
            if self._waits(live):
                self._ready.append(live)
            else:
                self._start(live)

    def _waits(self, live: _Live) -> bool:
        """Whether another trial runs the step that both have in common."""
        return any(other.folder == live.folder for other in self._running)

    def _start(self, live: _Live) -> None:
        try:
            command = live.task.command()
        except OSError as error:
            self._fail(live.trial, str(error))
            return
        slot = self._takes_slot(live)
        self._hands.start(live.folder, command, slot)

    def _takes_slot(self, live: _Live) -> int:
        taken = {other.slot for other in self._running}
        live.slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        live.since, live.stops_for = time.monotonic(), ""
        self._running.append(live)
        return live.slot

    def _new(self) -> _Live | None:
        while self._more_to_come():
            trial, assignment = self._brain.ask()
            self._say(f"trial {trial.number} starts: {_text(assignment.labels)}")
            live = self._prepared(trial, assignment)
            if live is not None:
                return live
        return None

    def _prepared(self, trial: Trial, assignment: Assignment) -> _Live | None:
        try:
            return _Live(trial, self._prepare(trial.number, assignment))
        except (OSError, ValueError) as error:  # an input that is missing or damaged
            self._fail(trial, str(error))
            return None

    def _more_to_come(self) -> bool:
        return len(self._brain.trials()) < self._limits.trials and not self._brain.exhausted

    def _ended(self, live: _Live, code: int) -> None:
        live.set(seconds=live.seconds)
        self._running.remove(live)
        live.slot = None
        self._report_looks(live)
        if code == 0:
            step = live.get("step") + 1
            if step == len(live.run.tasks):
                self._finish(live)
            else:
                live.set(step=step, restarts=0)
                self._ready.insert(0, live)
        elif code > 0 and code != EXIT_RESTART:
            self._fail(live.trial, last_sentence(live.folder / "log.txt") or f"exit code {code}")
        elif live.stops_for == "rung":
            self._pause(live)
        elif not live.stops_for:
            self._restart(live, code)

    def _restart(self, live: _Live, code: int) -> None:
        """A trial that was killed goes on from its checkpoint, unless it comes no further."""
        here = Workdir(live.folder)
        steps = [looks(here, student, "train/loss") for student in live.run.students]
        far = [live.get("step"), *(max(of_student, default=0) for of_student in steps)]
        restarts = live.get("restarts") + 1 if live.get("far") == far else 1
        live.set(far=far, restarts=restarts)
        if restarts > MOST_RESTARTS:
            said = last_sentence(live.folder / "log.txt")
            self._fail(live.trial, f"ended {restarts} times at the same point ({code}): {said}")
        else:
            self._say(f"trial {live.trial.number} is started again (exit code {code})")
            self._ready.append(live)

    def _fail(self, trial: Trial, sentence: str) -> None:
        self._say(f"trial {trial.number} failed: {sentence}")
        self._brain.fail(trial, sentence)

    def _finish(self, live: _Live) -> None:
        found = measures(live.run.workdir, list(live.run.students)) | {"seconds": live.seconds}
        goals = [goal.measure for goal in self._brain.plan.goals]
        bad = [name for name in goals if not math.isfinite(found.get(name, math.nan))]
        live.set(measures=found)
        if bad:  # as another measure may have been meant, say which there are
            known = ", ".join(sorted(found))
            self._fail(live.trial, f"it gave no finite {bad[0]}, but {known}.")
            return
        self._brain.complete(live.trial, [found[name] for name in goals])
        shown = ", ".join(f"{name} {found[name]:.4g}" for name in goals)
        self._say(f"trial {live.trial.number} is done: {shown}")

    # Halving.

    def _report_looks(self, live: _Live) -> None:
        """Tells the brain what the last training run has written of the score that halves."""
        if self._halving is None or not live.run.students:
            return
        known = self._brain.looks().get(live.trial.number, {})
        found = looks(live.run.workdir, live.run.students[-1], self._halving.goal.measure)
        for step in found.keys() - known.keys():
            live.trial.report(found[step], step)

    def _watch(self, live: _Live) -> None:
        if not live.stops_for and not self._goes_on(live):
            live.stops_for = "rung"
            self._hands.stop(live.folder)

    def _goes_on(self, live: _Live) -> bool:
        """Whether a trial is among the best at every rung that it has come to."""
        if self._halving is None:
            return True
        self._report_looks(live)
        every, number = self._brain.looks(), live.trial.number
        for rung in range(
            live.get("rungs"), halving.rungs_reached(self._halving, every.get(number, {}))
        ):
            if number not in halving.best(self._halving, every, rung, closed=False):
                return False
            live.set(rungs=rung + 1)
        return True

    def _pause(self, live: _Live) -> None:
        live.set(paused=True)
        self._paused.append(live)
        self._say(f"trial {live.trial.number} stops at rung {live.get('rungs') + 1}")

    def _promoted(self) -> _Live | None:
        """A trial that turns out to be among the best at the rung where it stopped."""
        if self._halving is None:
            return None
        closed = not self._running and not self._more_to_come()
        every = self._brain.looks()
        for rung in reversed(range(len(self._halving.rungs))):
            for number in halving.best(self._halving, every, rung, closed=closed):
                for live in self._paused:
                    if live.trial.number == number and live.get("rungs") == rung:
                        self._paused.remove(live)
                        live.set(paused=False, rungs=rung + 1)
                        self._say(f"trial {number} goes on beyond rung {rung + 1}")
                        return live
        return None

    def _prune_paused(self) -> None:
        for live in self._paused:
            self._brain.prune(live.trial)

    # Limits.

    def _spent_minutes(self) -> float:
        before = sum(trial.user_attrs.get("seconds", 0.0) for trial in self._brain.trials())
        now = sum(time.monotonic() - live.since for live in self._running)
        return (before + now) / 60

    def _stop_all(self) -> None:
        self._say(f"stopping {len(self._running)} trials, which keep their checkpoints")
        for live in self._running:
            live.stops_for = live.stops_for or "limit"
            self._hands.stop(live.folder)
        while self._running:
            for live in list(self._running):
                code = self._hands.exit_code(live.folder)
                if code is not None:
                    self._ended(live, code)
            time.sleep(_POLL_SECONDS)


def _text(labels: Mapping[str, Label]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in labels.items()
    )
