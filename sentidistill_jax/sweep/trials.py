"""The folder of a trial: a working directory of its own that reads what all trials share.

Texts, caches and students are links to those of the sweep. Every step has a config file, with which
the trial can be repeated by hand.
"""

import dataclasses
import os
import pathlib
import pprint
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sentidistill_jax.sweep.space import Step
from sentidistill_jax.workdir import Workdir

_CONFIG = '''\
"""Step {step} of {trial}: a config and its changes."""

import runpy

from sentidistill_jax.settings import with_changes

BASE = runpy.run_path({file!r})["get_config"]
CHANGES = {changes}


def get_config(arguments={arguments!r}):
    return with_changes(BASE(arguments), CHANGES)
'''
# Of which texts and the teacher's labels are made.
_DECIDE_TEXTS = ("texts.", "annotate.", "teacher.", "seed")


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What must be known of a step's config to run the step."""

    step: Step
    file: str
    arguments: str  # what follows the colon
    changes: Mapping[str, Any]
    stage: str
    name: str  # of the student
    source: str  # where the student's weights start
    caches: Sequence[str]  # stages that training reads
    watched: bool  # whether the student is scored as it learns


@dataclasses.dataclass(frozen=True)
class TrialRun:
    """A trial that is ready to run."""

    workdir: Workdir
    commands: Sequence[Sequence[str]]  # one after the other
    students: Sequence[str]  # names of its training runs, in order


def prepare(folder: pathlib.Path, steps: Sequence[StepConfig], inputs: pathlib.Path) -> TrialRun:
    """Makes the folder of a trial; one that is there already is left as it is.

    Args:
      folder: Of the trial.
      steps: In order.
      inputs: Working directory whose artifacts are read, unless a step makes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _link_inputs(folder.resolve(), steps, inputs.resolve())
    commands = []
    for number, config in enumerate(steps):
        step = config.step
        file = folder / f"{number}_{step.title}.py"
        file.write_text(
            _CONFIG.format(
                step=step.title,
                trial=f"trial {folder.name} of {folder.parents[1].name}",
                file=config.file,
                arguments=config.arguments,
                changes=pprint.pformat(dict(config.changes), sort_dicts=False, width=96),
            )
        )
        given = list(step.flags)
        if step.verb == "evaluate" and not any(flag.startswith("--model") for flag in given):
            given.append(f"--model=students/{config.name}")
        if step.verb == "evaluate" and not any(flag.startswith("--name") for flag in given):
            given.append("--name=student")
        commands.append(
            [
                *(sys.executable, "-m", "sentidistill_jax.cli", step.verb),
                *(f"--config={file}", f"--workdir={folder}", *given),
            ]
        )
    trained = [config.name for config in steps if config.step.verb == "train"]
    return TrialRun(Workdir(folder), commands, trained)


def _link_inputs(folder: pathlib.Path, steps: Sequence[StepConfig], inputs: pathlib.Path) -> None:
    own, shared = Workdir(folder), Workdir(inputs)
    corpora = [config for config in steps if config.step.verb == "corpus"]
    made = {own.prompts(config.stage) for config in corpora}
    made |= {own.cache(config.stage) for config in steps if config.step.verb == "teach"}
    if any(name.startswith(_DECIDE_TEXTS) for config in corpora for name in config.changes):
        made |= {own.texts, own.annotations}
    trained = {f"students/{config.name}" for config in steps if config.step.verb == "train"}
    students = {config.source for config in steps if config.source.startswith("students/")}
    wanted = [
        shared.texts,
        shared.annotations,
        *(inputs / "corpus").glob("*"),
        *(inputs / "cache").glob("*"),
        *(inputs / source for source in students - trained),
    ]
    for target in wanted:
        link = folder / target.relative_to(inputs)
        if target.exists() and link not in made and not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            # Relative, so that the whole may be moved.
            link.symlink_to(os.path.relpath(target, link.parent))
