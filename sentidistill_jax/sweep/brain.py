"""Optuna chooses trials and remembers them: the one module that knows it."""

import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from sentidistill_jax.sweep.halving import Looks
from sentidistill_jax.sweep.space import (
    Assignment,
    Choice,
    Domain,
    IntUniform,
    Label,
    LogUniform,
    Options,
    Space,
    Study,
    Uniform,
    choices,
)

SamplerName = Literal["auto", "random", "tpe", "grid", "nsga2"]
SAMPLERS: tuple[SamplerName, ...] = ("auto", "random", "tpe", "grid", "nsga2")

_FEWEST_FOR_IMPORTANCE = 8  # trials: of fewer, shares are noise


class _Held(JournalFileOpenLock):
    """No lock: whoever opens the journal holds that of the sweep, which dies with its holder."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def open_storage(url: str, journal: pathlib.Path) -> BaseStorage:
    """A database that Optuna knows by its URL, or the journal file for "".

    A line of the journal that a kill cut short is dropped: what it tells of was not done.
    """
    if url:
        return get_storage(url)
    if journal.is_file():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=_Held(str(journal))))


class Brain:
    """The trials of one sweep: which to make, and what became of them.

    Args:
      name: Of the sweep.
      plan: What is tried.
      storage: Where trials are remembered; one that exists is gone on with.
      sampler: How a space is searched; auto: NSGA-II for several goals, TPE for one.
      seed: Of the sampler.

    Raises:
      ValueError: If the sampler cannot serve the plan, or an arm is not what it was.
    """

    def __init__(
        self,
        name: str,
        plan: Space | Study,
        storage: BaseStorage,
        *,
        sampler: SamplerName = "auto",
        seed: int = 0,
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan = plan
        self._sampler = functools.partial(_sampler, sampler, plan)
        self._sampler(seed)  # refuses what does not fit the plan
        self._first_seed = seed
        if plan.halving and len(plan.goals) > 1:
            raise ValueError("halving needs one goal: among several no trial is the best.")
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=[goal.direction for goal in plan.goals],
            load_if_exists=True,
        )
        self._planned: list[Assignment] | None = None
        if isinstance(plan, Study):
            self._planned = plan.plan()
            self._enqueue_arms(self._planned)
        elif sampler == "grid":
            points = list(plan.grid())
            self._planned = [plan.assign(point) for point in points]
            for point in points:
                self._study.enqueue_trial(dict(point), skip_if_exists=True)

    @property
    def planned(self) -> Sequence[Assignment] | None:
        """All trials, where they are fixed; None for a space that is searched."""
        return self._planned

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials that were begun, by number."""
        states = states or tuple(set(TrialState) - {TrialState.WAITING})
        return self._study.get_trials(deepcopy=False, states=states)

    @property
    def exhausted(self) -> bool:
        """Whether all that are planned have been begun."""
        return self._planned is not None and not self.trials(TrialState.WAITING)

    def ask(self) -> tuple[Trial, Assignment]:
        """A new trial."""
        # Drawn by the trial's number: a sweep that was interrupted draws what it would have drawn.
        self._seed(len(self._study.get_trials(deepcopy=False)))
        trial = self._study.ask()
        return trial, self._assignment(trial)

    def _seed(self, number: int) -> None:
        self._study.sampler = self._sampler((self._first_seed << 16) + number)

    def begun(self) -> list[tuple[Trial, Assignment]]:
        """Trials that an earlier controller left without an end."""
        return [
            (trial, self._assignment(trial))
            for trial in (
                Trial(self._study, frozen._trial_id) for frozen in self.trials(TrialState.RUNNING)
            )
        ]

    def looks(self) -> dict[int, Looks]:
        """Trial -> the scores that were reported of it."""
        return {trial.number: trial.intermediate_values for trial in self.trials()}

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        """Ends a trial with its goals' values."""
        self._study.tell(trial, list(values))

    def fail(self, trial: Trial, sentence: str) -> None:
        """Ends a trial that could not be made."""
        trial.set_user_attr("failure", sentence)
        self._study.tell(trial, state=TrialState.FAIL)

    def prune(self, trial: Trial) -> None:
        """Ends a trial that stopped at a rung."""
        self._study.tell(trial, state=TrialState.PRUNED)

    def best(self) -> list[FrozenTrial]:
        """Trials that are done, best first; of several goals, those that no other one dominates."""
        several = len(self.plan.goals) > 1
        done = self._study.best_trials if several else self.trials(TrialState.COMPLETE)
        sign = self.plan.goals[0].sign
        return sorted(done, key=lambda trial: -sign * trial.values[0])

    def importance(self) -> dict[str, float]:
        """Entry of the space -> its share in what makes trials good, the largest first.

        By PED-ANOVA (arXiv:2304.10255); of several goals together, by who dominates whom.
        """
        trials = self.trials(TrialState.COMPLETE)
        if len(trials) < _FEWEST_FOR_IMPORTANCE or not any(trial.params for trial in trials):
            return {}
        return optuna.importance.get_param_importances(self._study)

    def labels(self, trial: FrozenTrial) -> dict[str, Label]:
        """What tells a trial from the others."""
        return dict(trial.user_attrs.get("arm") or trial.params)

    def _assignment(self, trial: Trial) -> Assignment:
        if isinstance(self.plan, Study):
            labels = trial.user_attrs["arm"]
            found = [one for one in self._planned or () if one.labels == labels]
            if not found:
                raise ValueError(f"the study has {labels} no longer; add it again.")
            return found[0]
        drawn: dict[str, Label] = {}
        for name in self.plan.fields:
            domain = self.plan.domain(name, drawn)
            if domain is not None:
                drawn[name] = _suggest(trial, name, domain)
        return self.plan.assign(drawn)

    def _enqueue_arms(self, planned: Sequence[Assignment]) -> None:
        known = {
            json.dumps(trial.user_attrs["arm"], sort_keys=True): trial.user_attrs["changes"]
            for trial in self._study.get_trials(deepcopy=False)
        }
        for assignment in planned:
            changes = json.loads(json.dumps(described(assignment), default=str))
            before = known.get(json.dumps(dict(assignment.labels), sort_keys=True))
            if before is None:
                self._study.enqueue_trial(
                    {}, user_attrs={"arm": dict(assignment.labels), "changes": changes}
                )
            elif before != changes:
                raise ValueError(
                    f"{dict(assignment.labels)} was begun with {before}, now it has {changes};"
                    " give the changed arm or the sweep another name."
                )


def described(assignment: Assignment) -> dict[str, Any]:
    """Step -> its changes, of all steps."""
    return {step.title: assignment.changes_of(step) for step in assignment.steps}


def _suggest(trial: Trial, name: str, domain: Domain) -> Label:
    match domain:
        case IntUniform(low, high):
            return trial.suggest_int(name, low, high)
        case Choice() | Options():
            return trial.suggest_categorical(name, list(choices(domain)))
        case LogUniform(low, high):
            return trial.suggest_float(name, low, high, log=True)
        case Uniform(low, high):
            return trial.suggest_float(name, low, high)


def _sampler(name: SamplerName, plan: Space | Study, seed: int) -> BaseSampler:
    if name not in SAMPLERS:
        raise ValueError(f"sampler={name!r} must be one of {', '.join(SAMPLERS)}.")
    if isinstance(plan, Study) and name != "auto":
        raise ValueError(f"sampler={name}: a study has a fixed plan; leave the sampler out.")
    if name == "auto":
        name = "nsga2" if len(plan.goals) > 1 else "tpe"
    if name == "nsga2":
        return NSGAIISampler(seed=seed)
    return TPESampler(seed=seed) if name == "tpe" else RandomSampler(seed=seed)
