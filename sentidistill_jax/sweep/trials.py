"""The folders of trials: working directories of their own that read what all share.

Texts, caches and students that a step reads are links. Every step has a config file, with which it
can be repeated by hand. What trials have in common before their last training run, they make once:
such a step has a folder that is named by what decides its result.
"""

import dataclasses
import functools
import operator
import os
import pathlib
import pprint
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.sweep.space import Step
from sentidistill_jax.workdir import Workdir

_CONFIG = '''\
"""Step {step} in {folder}: a config and its changes."""

import runpy

from sentidistill_jax.settings import with_changes

BASE = runpy.run_path({file!r})["get_config"]
CHANGES = {changes}


def get_config(arguments={arguments!r}):
    return with_changes(BASE(arguments), CHANGES)
'''
# Fields of a config that decide what a verb makes; some of a corpus decide texts and labels, too.
_DECIDE_TEXTS = ("texts", "annotate", "teacher", "seed")
_DECIDE_CORPUS = (*_DECIDE_TEXTS, "stage", "healing", "knowdist", "icldist", "difficulty")
_DECIDE = {
    "corpus": _DECIDE_CORPUS,
    "teach": (*_DECIDE_CORPUS, "generation", "cache", "student.source"),
    "train": (
        *("stage", "name", "seed", "teacher", "student", "lora", "objective", "optimizer", "data"),
        "evaluation.in_training",
    ),
}
_STUDENT = re.compile(r"\bstudents/[^/\s]+")


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """A step and what its config says."""

    step: Step
    file: str
    arguments: str  # what follows the colon
    changes: Mapping[str, Any]  # those that change something
    values: Mapping[str, Any]  # the whole config

    @property
    def verb(self) -> str:
        """What the step does."""
        return self.step.verb

    @property
    def corpus(self) -> str:
        """Whose prompts and cache it makes or reads."""
        return self.values["corpus"] or self.values["stage"]

    @property
    def name(self) -> str:
        """The student that it trains or scores."""
        return self.values["name"]

    @property
    def caches(self) -> Sequence[str]:
        """Stages that training reads."""
        return tuple(self.values["data"]["caches"] or (self.corpus,))

    @property
    def decides(self) -> dict[str, Any]:
        """What decides the step's result, beside what it reads."""
        fields = _DECIDE[self.verb]
        return {"verb": self.verb, **{field: value_at(self.values, field) for field in fields}}


def value_at(values: Mapping[str, Any], field: str) -> Any:
    """The value of a dotted field."""
    return functools.reduce(operator.getitem, field.split("."), values)


@dataclasses.dataclass(frozen=True)
class Task:
    """A command and where it runs; at most one at a time runs in a folder."""

    folder: pathlib.Path
    command: Callable[[], Sequence[str]]  # makes the folder; called once earlier tasks are done


@dataclasses.dataclass(frozen=True)
class TrialRun:
    """A trial as the controller sees it."""

    workdir: Workdir
    tasks: Sequence[Task]  # one after the other
    students: Sequence[str]  # names of its training runs, in order


def trial_run(
    sweep: pathlib.Path, number: int, steps: Sequence[StepConfig], inputs: pathlib.Path
) -> TrialRun:
    """Lays out a trial; nothing is written before its tasks are.

    Args:
      sweep: Folder of the sweep.
      number: Of the trial.
      steps: In order.
      inputs: Working directory whose artifacts are read, unless a step makes them.
    """
    folder = sweep / "trials" / str(number)
    last = max((i for i, config in enumerate(steps) if config.verb == "train"), default=len(steps))
    tasks, read, key = [], inputs, str(inputs)
    for index, config in enumerate(steps):
        where, kept = folder, read
        if index < last and config.verb != "evaluate":
            key = fingerprint([key, config.decides])
            where = read = sweep / "shared" / key[:16]
        tasks.append(Task(where, _command(where, index, config, kept)))
    trained = [config.name for config in steps if config.verb == "train"]
    return TrialRun(Workdir(folder), tasks, trained)


def _command(
    folder: pathlib.Path, index: int, config: StepConfig, inputs: pathlib.Path
) -> Callable[[], Sequence[str]]:
    def command() -> Sequence[str]:
        folder.mkdir(parents=True, exist_ok=True)
        _link_inputs(folder.resolve(), config, inputs.resolve())
        file = folder / f"{index}_{config.step.title}.py"
        file.write_text(
            _CONFIG.format(
                step=config.step.title,
                folder="/".join(folder.parts[-4:]),
                file=config.file,
                arguments=config.arguments,
                changes=pprint.pformat(dict(config.changes), sort_dicts=False, width=96),
            )
        )
        given = list(config.step.flags)
        if config.verb == "evaluate" and not any(flag.startswith("--model") for flag in given):
            given.append(f"--model=students/{config.name}")
        if config.verb == "evaluate" and not any(flag.startswith("--name") for flag in given):
            given.append("--name=student")
        program = [sys.executable, "-m", "sentidistill_jax.cli", config.verb]
        return [*program, f"--config={file}", f"--workdir={folder}", *given]

    return command


def _link_inputs(folder: pathlib.Path, config: StepConfig, inputs: pathlib.Path) -> None:
    own, shared = Workdir(folder), Workdir(inputs)
    made = {
        "corpus": {own.prompts(config.corpus), own.difficulty(config.corpus)},
        "teach": {own.cache(config.corpus)},
        "train": {own.student(config.name)},
    }.get(config.verb, set())
    changed = {name.split(".")[0] for name in config.changes}
    if config.verb == "corpus" and changed & set(_DECIDE_TEXTS):
        made |= {own.texts, own.annotations}
    named = " ".join(
        [
            config.values["student"]["source"],
            config.values["difficulty"]["model"],
            *config.step.flags,
        ]
    )
    wanted = [
        shared.texts,
        shared.annotations,
        *(inputs / "corpus").glob("*"),
        *(inputs / "cache").glob("*"),
        *(inputs / student for student in _STUDENT.findall(named)),
    ]
    for target in wanted:
        link = folder / target.relative_to(inputs)
        if target.exists() and link not in made and not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            # Relative, so that the whole may be moved.
            link.symlink_to(os.path.relpath(target, link.parent))
