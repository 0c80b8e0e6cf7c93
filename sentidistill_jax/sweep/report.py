"""What came of a sweep: its trials, and the arms of a study with intervals and differences."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import TrialState
from scipy.special import stdtrit

from sentidistill_jax.evaluation.text_table import Format, render_table
from sentidistill_jax.sweep.brain import Brain
from sentidistill_jax.sweep.space import Label, Study

_BEST = 20  # trials in the table
_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "stopped at a rung",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds; the interval is Student's, 95 %, and None of one seed."""

    mean: float
    seeds: int
    half_width: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Of at least one value."""
        count = len(values)
        if count < 2:
            return cls(values[0], count, None)
        error = statistics.stdev(values) / math.sqrt(count)
        return cls(statistics.fmean(values), count, float(stdtrit(count - 1, 0.975)) * error)

    def __str__(self) -> str:
        spread = "" if self.half_width is None else f" ± {_number(self.half_width)}"
        return f"{_number(self.mean)}{spread}"


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One measure of an arm at a size."""

    arm: str
    size: str
    measure: str
    value: Estimate
    difference: Estimate | None  # from the control arm, over the seeds of both; None of itself


def arm_results(
    study: Study, trials: Iterable[tuple[Mapping[str, Label], Mapping[str, float]]]
) -> list[ArmResult]:
    """Means over seeds of every arm and goal, and paired differences from the control arm.

    Args:
      study: The plan.
      trials: Labels and measures of the trials that are done.
    """
    found: dict[tuple[str, str], dict[int, Mapping[str, float]]] = {}
    for labels, of_trial in trials:
        cell = str(labels["arm"]), str(labels.get("size", ""))
        found.setdefault(cell, {})[int(labels["seed"])] = of_trial
    results = []
    for goal in study.goals:
        name = goal.measure
        for size in study.sizes:
            control = found.get((study.control, size), {})
            for arm in study.arms:
                by_seed = found.get((arm, size), {})
                if not by_seed:
                    continue
                both = [seed for seed in by_seed if seed in control and arm != study.control]
                gaps = [by_seed[seed][name] - control[seed][name] for seed in both]
                value = Estimate.of([of_seed[name] for of_seed in by_seed.values()])
                difference = Estimate.of(gaps) if gaps else None
                results.append(ArmResult(arm, size, name, value, difference))
    return results


def study_results(brain: Brain, study: Study) -> list[ArmResult]:
    """`arm_results` of the trials that are done."""
    done = [trial for trial in brain.trials() if trial.state == TrialState.COMPLETE]
    return arm_results(
        study, [(brain.labels(trial), trial.user_attrs["measures"]) for trial in done]
    )


def results_of(brain: Brain) -> dict[str, Any]:
    """All that is known of a sweep, as results.json holds it; docs/sweeps.md."""
    plan = brain.plan
    trials = [
        {
            "number": trial.number,
            "state": _STATES[trial.state],
            "labels": brain.labels(trial),
            "measures": trial.user_attrs.get("measures", {}),
            "looks": {str(step): score for step, score in trial.intermediate_values.items()},
            "minutes": trial.user_attrs.get("seconds", 0.0) / 60,
            "failure": trial.user_attrs.get("failure"),
        }
        for trial in brain.trials()
    ]
    results: dict[str, Any] = {
        "goals": [dataclasses.asdict(goal) for goal in plan.goals],
        "trials": trials,
    }
    if isinstance(plan, Study):
        results["control"] = plan.control
        results["arms"] = [dataclasses.asdict(arm) for arm in study_results(brain, plan)]
    else:
        results["importance"] = brain.importance()
    return results


def tables(brain: Brain, format: Format = "text") -> str:
    """The best trials, failures, and arms or importance, for a terminal or a document."""
    plan, parts = brain.plan, []
    trials = brain.trials()
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    counts = {
        text: sum(_STATES[trial.state] == text for trial in trials) for text in _STATES.values()
    }
    minutes = sum(trial.user_attrs.get("seconds", 0.0) for trial in trials) / 60
    shown = ", ".join(f"{count} {text}" for text, count in counts.items() if count)
    parts.append(f"{len(trials)} trials in {minutes:.1f} minutes: {shown or 'none'}")
    if isinstance(plan, Study):
        head = ["arm", "size", "measure", "seeds", "mean", f"difference from {plan.control}"]
        rows = [
            [
                *(one.arm, one.size, one.measure, str(one.value.seeds), str(one.value)),
                "" if one.difference is None else str(one.difference),
            ]
            for one in study_results(brain, plan)
        ]
        parts.append(render_table([head, *rows], format))
    elif done:
        parts.append(_best_trials(brain, format))
        rows = [[name, f"{share:.2f}"] for name, share in brain.importance().items()]
        if rows:
            parts.append(render_table([["entry", "importance"], *rows], format))
    failed = [
        f"trial {trial.number} failed: {trial.user_attrs.get('failure', '')}"
        for trial in trials
        if trial.state == TrialState.FAIL
    ]
    return "\n\n".join([*parts, *(["\n".join(failed)] if failed else [])])


def _best_trials(brain: Brain, format: Format) -> str:
    goals, ranked = brain.plan.goals, brain.best()[:_BEST]
    names = list(dict.fromkeys(name for trial in ranked for name in brain.labels(trial)))
    head = ["trial", *(goal.measure for goal in goals), *names, "minutes"]
    rows = [
        [
            str(trial.number),
            *map(_number, trial.values),
            *(_cell(brain.labels(trial).get(name, "")) for name in names),
            f"{trial.user_attrs.get('seconds', 0.0) / 60:.1f}",
        ]
        for trial in ranked
    ]
    return render_table([head, *rows], format)


def _cell(label: Label) -> str:
    return _number(label) if isinstance(label, float) else str(label)


def _number(value: float) -> str:
    return f"{value:.4g}"
