"""A controller in a process of its own, so that it can be killed; its trials are trial_process.py.

python control.py FOLDER JSON, where JSON has `trials`, `workers`, `seconds` of a step, `minutes`.
"""

import json
import pathlib
import sys

from sentidistill_jax.sweep.brain import Brain, open_storage
from sentidistill_jax.sweep.controller import Controller, Limits
from sentidistill_jax.sweep.hands import LocalHands
from sentidistill_jax.sweep.report import results_of
from sentidistill_jax.sweep.space import Assignment, Halving, Space, Uniform
from sentidistill_jax.sweep.trials import Task, TrialRun
from sentidistill_jax.workdir import Workdir

SCRIPT = str(pathlib.Path(__file__).with_name("trial_process.py"))
SPACE = Space({"peak": Uniform(0.0, 1.0)})
HALVING = Halving(rungs=(2, 5), factor=2)


def run(
    folder: pathlib.Path, *, trials=6, workers=2, seconds=0.05, minutes=60.0, halve=False, dies=()
):
    """Runs the sweep and returns its results."""
    space = Space(SPACE.fields, halving=HALVING if halve else None)
    brain = Brain("kills", space, open_storage(journal=folder / "journal.log"), sampler="random")

    def prepare(number: int, assignment: Assignment) -> TrialRun:
        own = folder / "trials" / str(number)
        own.mkdir(parents=True, exist_ok=True)
        peak = "-1" if number in dies else str(assignment.changes["peak"])
        command = [sys.executable, SCRIPT, str(own), peak, str(seconds)]
        return TrialRun(Workdir(own), [Task(own, lambda: command)], ["one"])

    Controller(brain, LocalHands(workers), prepare, Limits(trials, workers, minutes)).run()
    return results_of(brain)


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1])
    found = run(where, **json.loads(sys.argv[2]))
    (where / "results.json").write_text(json.dumps(found))
