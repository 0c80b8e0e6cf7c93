"""What a sweep tries: a space to search, or a study of arms; files of configs/sweeps hold one each.

Everything is said in config fields, as in `{"optimizer.learning_rate": LogUniform(1e-5, 1e-3)}`. A
field changes in all steps of a trial, `"NAME:optimizer.learning_rate"` in the step NAME alone.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

Changes = Mapping[str, Any]  # dotted config field -> value; a mapping replaces an open section
Label = str | int | float
Sampler = Literal["auto", "random", "tpe", "grid", "nsga2"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Any number from `low` to `high`."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Any number from `low` to `high`, each order of magnitude alike."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class IntUniform:
    """Any whole number from `low` to `high`, both included."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values of a field, such as seeds or points of a grid."""

    values: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """One of some named sets of changes; stands under a name of its own, not under a field."""

    changes: Mapping[str, Changes]


@dataclasses.dataclass(frozen=True)
class When:
    """A domain that is there only where another entry of the space, before it, has such a value."""

    name: str
    values: Sequence[Any]
    domain: "Uniform | LogUniform | IntUniform | Choice | Options"


Domain = Uniform | LogUniform | IntUniform | Choice | Options


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of a trial.

    `evaluate` scores the student of the step's config as `student`, unless its flags say otherwise.
    """

    verb: Literal["corpus", "teach", "train", "evaluate"]
    name: str = ""  # "": the verb
    config: str = ""  # file of its config; "": that of the sweep
    changes: Changes = dataclasses.field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its name among the steps of a trial."""
        return self.name or self.verb


@dataclasses.dataclass(frozen=True)
class Goal:
    """What decides between trials: a measure, as the results of a trial name it."""

    measure: str
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def sign(self) -> int:
        """Multiplied by it, more is better."""
        return 1 if self.direction == "maximize" else -1


@dataclasses.dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving (ASHA, arXiv:1810.05934) on what training writes as it goes.

    At each rung a trial goes on while it is among the best 1/factor of those that came so far. The
    others stop with a checkpoint, and go on from it if they are found to be among the best later.
    """

    rungs: Sequence[int]  # training steps; the first look at or after it counts
    factor: int = 3
    goal: Goal = Goal("eval/mean_f1")  # a metric of the trial's last training run


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What one trial is."""

    labels: Mapping[str, Label]  # tell it from the others
    changes: Changes
    steps: Sequence[Step]
    inputs: str = ""

    def changes_of(self, step: Step) -> dict[str, Any]:
        """The changes of one step: those of all steps, its own, and last those under its name."""
        everywhere = {name: value for name, value in self.changes.items() if ":" not in name}
        prefix = f"{step.title}:"
        own = {
            name.removeprefix(prefix): value
            for name, value in self.changes.items()
            if name.startswith(prefix)
        }
        return {**everywhere, **step.changes, **own}


@dataclasses.dataclass(frozen=True)
class Space:
    """A space that a sampler searches."""

    fields: Mapping[str, Domain | When]
    steps: Sequence[Step] = (Step("train"),)
    goals: Sequence[Goal] = (Goal("eval/mean_f1"),)
    halving: Halving | None = None

    def assign(self, drawn: Mapping[str, Label]) -> Assignment:
        """The trial in which the entries have these labels; those without one are not there."""
        changes: dict[str, Any] = {}
        for name, label in drawn.items():
            entry = self.fields[name]
            domain = entry.domain if isinstance(entry, When) else entry
            if isinstance(domain, Options):
                changes |= domain.changes[str(label)]
            elif isinstance(domain, Choice):
                changes[name] = choices(domain)[label]
            else:
                changes[name] = label
        return Assignment(drawn, changes, self.steps)

    def corners(self) -> Iterator[Assignment]:
        """Trials that change one entry each: an end of its range, or one of its choices."""
        for name, entry in self.fields.items():
            domain = entry.domain if isinstance(entry, When) else entry
            labels = choices(domain) if isinstance(domain, Choice | Options) else (domain.low,)
            for label in labels:
                yield self.assign({name: label})

    def grid(self) -> Iterator[dict[str, Label]]:
        """Labels of every point, the last entry changing fastest.

        Raises:
          ValueError: If an entry is a range.
        """
        yield from self._grid(list(self.fields), {})

    def _grid(self, names: list[str], chosen: dict[str, Label]) -> Iterator[dict[str, Label]]:
        if not names:
            yield chosen
            return
        name, *rest = names
        domain = self.domain(name, chosen)
        if domain is None:
            yield from self._grid(rest, chosen)
            return
        if not isinstance(domain, Choice | Options):
            raise ValueError(f"{name} is a range, and a grid needs a Choice; choose one for it.")
        for label in choices(domain):
            yield from self._grid(rest, {**chosen, name: label})

    def domain(self, name: str, chosen: Mapping[str, Label]) -> Domain | None:
        """The domain of an entry, given the labels of those before it; None if it is not there."""
        entry = self.fields[name]
        if not isinstance(entry, When):
            return entry
        wanted = {_label(value) for value in entry.values}
        return entry.domain if chosen.get(entry.name) in wanted else None


@dataclasses.dataclass(frozen=True)
class Variant:
    """Changes under a name: an arm of a study, or a size at which all arms are tried."""

    changes: Changes = dataclasses.field(default_factory=dict)
    steps: Sequence[Step] = ()  # instead of the study's
    inputs: str = ""  # working directory whose texts, caches and students are read; "": the sweep's


_EVERY_SIZE = {"": Variant()}


@dataclasses.dataclass(frozen=True)
class Study:
    """A fixed plan: every arm at every size with every seed."""

    arms: Mapping[str, Variant]
    control: str  # the arm that the others are compared with
    sizes: Mapping[str, Variant] = dataclasses.field(default_factory=lambda: _EVERY_SIZE)
    seeds: Sequence[int] = (0, 1, 2)
    steps: Sequence[Step] = (Step("train"), Step("evaluate"))
    goals: Sequence[Goal] = (Goal("student/held_out/reviews/f1"),)
    halving: None = None  # all trials run to their ends

    def __post_init__(self):
        if self.control not in self.arms:
            raise ValueError(f"control={self.control!r} must be an arm: {sorted(self.arms)}.")

    def plan(self) -> list[Assignment]:
        """Every trial: whole rounds of arms, so that a study cut short has pairs."""
        return [
            Assignment(
                {"arm": name, "size": size, "seed": seed} if size else {"arm": name, "seed": seed},
                {**of_size.changes, **arm.changes, "seed": seed},
                arm.steps or of_size.steps or self.steps,
                arm.inputs or of_size.inputs,
            )
            for (size, of_size), seed, (name, arm) in itertools.product(
                self.sizes.items(), self.seeds, self.arms.items()
            )
        ]


def choices(domain: Choice | Options) -> dict[Label, Any]:
    """Label -> value: plain values are their own, others are as Python writes them."""
    if isinstance(domain, Options):
        return {name: changes for name, changes in domain.changes.items()}
    return {_label(value): value for value in domain.values}


def _label(value: Any) -> Label:
    return value if isinstance(value, str | int | float) else repr(value)
