"""Stage `sweep`: many students from what one working directory holds, searched or planned."""

import contextlib
import dataclasses
import fcntl
import pathlib
import runpy
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sentidistill_jax.artifact import Artifact, file_fingerprint, write_json
from sentidistill_jax.errors import Interrupted, Preempted
from sentidistill_jax.reporting.cache_report import verify_cache
from sentidistill_jax.settings import Config, with_changes
from sentidistill_jax.stop_request import StopRequest
from sentidistill_jax.sweep.brain import Brain, described, open_storage
from sentidistill_jax.sweep.controller import Controller, Limits
from sentidistill_jax.sweep.figure import study_figure
from sentidistill_jax.sweep.hands import LocalHands
from sentidistill_jax.sweep.report import results_of, study_results, tables
from sentidistill_jax.sweep.space import Assignment, Sampler, Space, Step, Study
from sentidistill_jax.sweep.trials import StepConfig, TrialRun, trial_run, value_at
from sentidistill_jax.workdir import Workdir


def read_plan(file: pathlib.Path) -> Space | Study:
    """What the function `get_space` of a Python file returns.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it has no such function, or that returns something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"space {str(file)!r} not found; see configs/sweeps/.")
    get_space = runpy.run_path(str(file)).get("get_space")
    plan = get_space() if callable(get_space) else None
    if not isinstance(plan, Space | Study):
        raise ValueError(
            f"{file} must have a function get_space() that returns a Space or a Study."
        )
    return plan


class Sweep:
    """One sweep of a working directory; its folder is `sweep/NAME` there.

    Args:
      plan: What is tried.
      name: Of the sweep.
      workdir: Holds what all trials read.
      config_file: Config of the steps that name none, perhaps with arguments behind a colon.
      overrides: Fields of that config that differ in all trials.
    """

    def __init__(
        self,
        plan: Space | Study,
        name: str,
        workdir: Workdir,
        config_file: str,
        overrides: Mapping[str, Any],
    ):
        self.plan, self.name = plan, name
        self.folder = workdir.root / "sweep" / name
        self._inputs, self._config_file, self._overrides = workdir.root, config_file, overrides
        self._verified: set[pathlib.Path] = set()

    def dry_run(self, trials: int, sampler: Sampler, seed: int) -> str:
        """What would be begun: a line of changes for each trial; runs nothing."""
        brain = Brain(self.name, self.plan, open_storage(), sampler=sampler, seed=seed)
        lines: list[str] = []
        while len(lines) < trials and not brain.exhausted:
            trial, assignment = brain.ask()
            self._steps(assignment)  # refuses what the config has not
            changes = described(assignment)
            by_step = [f"{title}: {of_step}" for title, of_step in changes.items() if of_step]
            lines.append(f"trial {trial.number}: {'; '.join(by_step)}")
        return "\n".join(lines)

    def run(
        self, limits: Limits, *, storage: str = "", sampler: Sampler = "auto", seed: int = 0
    ) -> str:
        """Runs the sweep, or goes on with it; returns the tables of its results.

        Raises:
          ValueError: If another controller runs it, or something in it does not fit.
          Interrupted: After SIGTERM or SIGINT, once the trials have saved their states.
        """
        self._check()
        self.folder.mkdir(parents=True, exist_ok=True)
        with _only_one(self.folder), StopRequest() as stop:
            self._artifact().begin()
            stored = open_storage(storage, journal=self.folder / "journal.log")
            brain = Brain(self.name, self.plan, stored, sampler=sampler, seed=seed)
            controller = Controller(
                brain, LocalHands(limits.workers), self._prepare, limits,
                say=lambda line: print(line, flush=True), stopped=lambda: stop.received is not None,
            )  # fmt: skip
            controller.run()
            write_json(self.folder / "results.json", results_of(brain))
            shown = tables(brain)
            (self.folder / "results.txt").write_text(shown + "\n")
            if isinstance(self.plan, Study) and (found := study_results(brain, self.plan)):
                study_figure(found, self.folder / "results.png")
        if stop.received is not None:
            kind = Preempted if stop.received == signal.SIGTERM else Interrupted
            raise kind(f"stopped by {stop.received.name}; run the same command again to go on.")
        return shown

    def _artifact(self) -> Artifact:
        """Refuses to go on with another sweep; that arms stay what they were the brain sees to."""
        plan, searched = self.plan, {}
        if isinstance(plan, Space):
            searched = {"fields": repr(plan.fields), "steps": repr(plan.steps)}
        return Artifact(
            self.folder,
            {
                "config": self._config_file,
                "overrides": {name: repr(value) for name, value in self._overrides.items()},
                "goals": [dataclasses.asdict(goal) for goal in plan.goals],
                "halving": repr(plan.halving),
                **searched,
            },
        )

    def _check(self) -> None:
        """Refuses fields that configs have not, and goals that training would not write."""
        plan = self.plan
        for assignment in plan.plan() if isinstance(plan, Study) else plan.corners():
            trained = [one.values for one in self._steps(assignment) if one.verb == "train"]
            measures = [goal.measure for goal in plan.goals]
            measures += [plan.halving.goal.measure] if plan.halving else []
            watched = [name for name in measures if name.startswith("eval/")]
            intervals = [one["evaluation"]["in_training"]["interval"] for one in trained]
            if watched and not any(intervals):
                raise ValueError(
                    f"{watched[0]} decides, but no step watches it: set"
                    " evaluation.in_training.interval to a number of steps."
                )

    def _prepare(self, number: int, assignment: Assignment) -> TrialRun:
        steps = self._steps(assignment)
        inputs = pathlib.Path(assignment.inputs) if assignment.inputs else self._inputs
        self._verify(inputs, steps)
        return trial_run(self.folder, number, steps, inputs)

    def _steps(self, assignment: Assignment) -> list[StepConfig]:
        return [self._step(step, assignment.changes_of(step)) for step in assignment.steps]

    def _step(self, step: Step, changes: Mapping[str, Any]) -> StepConfig:
        file, _, arguments = (step.config or self._config_file).partition(":")
        if not step.config:
            changes = {**self._overrides, **changes}
        if not pathlib.Path(file).is_file():
            raise FileNotFoundError(f"config file {file!r} of step {step.title!r} not found.")
        base: Config = runpy.run_path(file)["get_config"](arguments)
        before, values = base.to_dict(), with_changes(base, changes).to_dict()
        changes = {
            field: value
            for field, value in changes.items()
            if value_at(before, field) != value_at(values, field)
        }
        return StepConfig(step, file, arguments, changes, values)

    def _verify(self, inputs: pathlib.Path, steps: Sequence[StepConfig]) -> None:
        """Reads whole, once in the life of a sweep, every cache that trials share."""
        made = {config.corpus for config in steps if config.verb == "teach"}
        read = {name for config in steps if config.verb == "train" for name in config.caches}
        for stage in sorted(read - made):
            cache = Workdir(inputs).cache(stage)
            if cache in self._verified:
                continue
            identity = file_fingerprint(cache / "manifest.json")
            mark = self.folder / "verified" / f"{identity}.json"
            if not mark.is_file():
                print(f"verifying the cache {cache}", flush=True)
                write_json(mark, {"cache": str(cache), "report": verify_cache(cache)})
            self._verified.add(cache)


@contextlib.contextmanager
def _only_one(folder: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a sweep; it goes with the process that holds it, however that ends."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another controller runs the sweep {folder}; wait for it or stop it."
            ) from error
        yield
