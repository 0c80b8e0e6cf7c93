"""Optuna chooses trials and remembers them: the one module that knows it."""

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from sentidistill_jax.sweep.halving import Looks
from sentidistill_jax.sweep.space import (
    SAMPLERS,
    Assignment,
    Choice,
    Domain,
    IntUniform,
    Label,
    LogUniform,
    Options,
    Sampler,
    Space,
    Study,
    Uniform,
    choices,
)

_FEWEST_FOR_IMPORTANCE = 8  # trials: of fewer, shares are noise


class _Held(JournalFileOpenLock):
    """No lock: whoever opens the journal holds that of the sweep, which dies with its holder."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def open_storage(url: str = "", *, journal: pathlib.Path | None = None) -> BaseStorage:
    """A database that Optuna knows by its URL; else a journal file; with neither, memory.

    A line of the journal that a kill cut short is dropped: what it tells of was not done.
    """
    if url:
        return get_storage(url)
    if journal is None:
        return InMemoryStorage()
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
        sampler: Sampler = "auto",
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
        self._arms: list[Assignment] = []
        self._is_planned = isinstance(plan, Study) or sampler == "grid"
        if isinstance(plan, Study):
            self._arms = plan.plan()
            self._enqueue_arms()
        elif sampler == "grid":
            for point in plan.grid():
                self._study.enqueue_trial(dict(point), skip_if_exists=True)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials that were begun, by number."""
        states = states or tuple(set(TrialState) - {TrialState.WAITING})
        return self._study.get_trials(deepcopy=False, states=states)

    @property
    def exhausted(self) -> bool:
        """Whether all that are planned have been begun."""
        return self._is_planned and not self.trials(TrialState.WAITING)

    def ask(self) -> tuple[Trial, Assignment]:
        """A new trial."""
        # Drawn by the trial's number: a sweep that was interrupted draws what it would have drawn.
        self._seed(len(self._study.get_trials(deepcopy=False)))
        trial = self._study.ask()
        return trial, self._assignment(trial)

    def _seed(self, number: int) -> None:
        self._study.sampler = self._sampler((self._first_seed * 1_000_003 + number) % 2**32)

    def begun(self) -> list[tuple[Trial, Assignment]]:
        """Trials that an earlier controller left without an end."""
        found = []
        for frozen in self.trials(TrialState.RUNNING):
            self._seed(frozen.number)
            trial = Trial(self._study, frozen._trial_id)  # what it has not drawn it draws now
            found.append((trial, self._assignment(trial)))
        return found

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
            return next(one for one in self._arms if one.labels == labels)
        drawn: dict[str, Label] = {}
        for name in self.plan.fields:
            domain = self.plan.domain(name, drawn)
            if domain is not None:
                drawn[name] = _suggest(trial, name, domain)
        return self.plan.assign(drawn)

    def _enqueue_arms(self) -> None:
        known = {_key(trial.user_attrs["arm"]): trial for trial in self._study.get_trials()}
        for arm in self._arms:
            changes = json.loads(json.dumps(described(arm), default=str))
            before = known.pop(_key(arm.labels), None)
            if before is None:
                attributes = {"arm": dict(arm.labels), "changes": changes}
                self._study.enqueue_trial({}, user_attrs=attributes)
            elif before.user_attrs["changes"] != changes:
                raise ValueError(
                    f"{dict(arm.labels)} was planned as {before.user_attrs['changes']}, now it is"
                    f" {changes}; give the changed arm or the sweep another name."
                )
        for trial in known.values():
            if not trial.state.is_finished():
                raise ValueError(
                    f"{trial.user_attrs['arm']} is planned but no longer in the study; put it back,"
                    " or give the sweep another name."
                )


def _key(labels: Mapping[str, Label]) -> str:
    return json.dumps(dict(labels), sort_keys=True)


def described(assignment: Assignment) -> dict[str, Any]:
    """Step -> its changes, of all steps."""
    return {step.title: assignment.changes_of(step) for step in assignment.steps}


def _suggest(trial: Trial, name: str, domain: Domain) -> Label:
    match domain:
        case IntUniform(low, high):
            return trial.suggest_int(name, low, high)
        case Choice() | Options():
            return cast(Label, trial.suggest_categorical(name, list(choices(domain))))
        case LogUniform(low, high):
            return trial.suggest_float(name, low, high, log=True)
        case Uniform(low, high):
            return trial.suggest_float(name, low, high)


def _sampler(name: Sampler, plan: Space | Study, seed: int) -> BaseSampler:
    if name not in SAMPLERS:
        raise ValueError(f"sampler={name!r} must be one of {', '.join(SAMPLERS)}.")
    if isinstance(plan, Study) and name != "auto":
        raise ValueError(f"sampler={name}: a study has a fixed plan; leave the sampler out.")
    if name == "auto":
        name = "nsga2" if len(plan.goals) > 1 else "tpe"
    if name == "nsga2":
        return NSGAIISampler(seed=seed)
    return TPESampler(seed=seed) if name == "tpe" else RandomSampler(seed=seed)
