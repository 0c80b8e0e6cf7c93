"""Folders of trials: what is linked, what is shared, and what a step's config file says."""

import copy
import dataclasses
import pathlib

import pytest

from sentidistill_jax.sweep.space import Step
from sentidistill_jax.sweep.trials import StepConfig, trial_run

VALUES = {
    **{name: {} for name in ("texts", "annotate", "teacher", "knowdist", "icldist")},
    **{name: {} for name in ("generation", "cache", "lora", "objective")},
    "healing": {},
    "corpus": "",
    "difficulty": {"model": ""},
    "data": {"caches": {}},
    "evaluation": {"in_training": {}, "max_examples": {}},
}


def config_of(verb, stage, **changes):
    values = copy.deepcopy(VALUES) | {"stage": stage, "name": stage, "seed": 0}
    values["optimizer"] = {"learning_rate": changes.get("optimizer.learning_rate", 1e-3)}
    values["student"] = {"source": "students/knowdist" if stage == "icldist" else "teacher"}
    return StepConfig(Step(verb), "configs/base.py", "smoke", changes, values)


@pytest.fixture
def inputs(tmp_path) -> pathlib.Path:
    for name in ("texts", "annotations", "cache/knowdist", "cache/icldist", "corpus/knowdist"):
        (tmp_path / "run" / name).mkdir(parents=True)
    return tmp_path / "run"


def test_a_trial_reads_what_all_share_and_writes_its_own(inputs):
    run = trial_run(inputs / "sweep" / "s", 7, [config_of("train", "knowdist")], inputs)
    (task,) = run.tasks
    assert not task.folder.exists()
    program, *flags = list(task.command())[3:]
    assert program == "train" and flags[1] == f"--workdir={task.folder}"
    links = {str(p.relative_to(task.folder)) for p in task.folder.rglob("*") if p.is_symlink()}
    assert links == {"texts", "annotations", "cache/knowdist", "cache/icldist", "corpus/knowdist"}
    assert all((task.folder / link).is_dir() for link in links)
    assert not pathlib.Path(task.folder / "texts").readlink().is_absolute()
    task.command()  # a second controller finds the folder


def test_a_step_makes_its_own(inputs):
    def made_in(config):
        (task,) = trial_run(inputs / "s", 0, [config], inputs).tasks
        task.command()
        return {str(path.relative_to(task.folder)) for path in task.folder.rglob("*")}

    assert made_in(config_of("teach", "icldist")) & {"cache/icldist", "cache/knowdist"} == {
        "cache/knowdist"
    }
    new_texts = made_in(config_of("corpus", "icldist", **{"texts.max_words": 9}))
    assert not new_texts & {"texts", "annotations"} and "corpus/knowdist" in new_texts
    assert {"texts", "annotations"} < made_in(config_of("corpus", "icldist"))


def test_a_corpus_has_a_folder_of_its_own_and_the_model_that_finds_texts_difficult(inputs):
    (inputs / "students" / "start").mkdir(parents=True)
    config = config_of("corpus", "icldist")
    named = {"corpus": "knowdist", "difficulty": {"model": "students/start"}}
    config = dataclasses.replace(config, values={**config.values, **named})
    (task,) = trial_run(inputs / "s", 0, [config], inputs).tasks
    task.command()
    assert (task.folder / "students" / "start").is_symlink()
    assert not (task.folder / "corpus" / "knowdist").exists()  # it makes that one itself


def test_what_trials_have_in_common_is_made_once(inputs):
    def run(number, first, second):
        steps = [
            config_of("train", "knowdist", **{"optimizer.learning_rate": first}),
            config_of("train", "icldist", **{"optimizer.learning_rate": second}),
            config_of("evaluate", "icldist"),
        ]
        return trial_run(inputs / "sweep" / "s", number, steps, inputs)

    one, same_start, other_start = run(0, 1e-3, 1e-4), run(1, 1e-3, 1e-5), run(2, 1e-2, 1e-4)
    shared, *own = [task.folder for task in one.tasks]
    assert own == [one.workdir.root] * 2 and one.students == ["knowdist", "icldist"]
    assert same_start.tasks[0].folder == shared != other_start.tasks[0].folder
    one.tasks[0].command()
    (shared / "students" / "knowdist").mkdir(parents=True)
    one.tasks[1].command()
    assert {"--model=students/icldist", "--name=student"} < set(one.tasks[2].command())
    assert one.workdir.student("knowdist").resolve() == shared / "students" / "knowdist"
    assert one.workdir.cache("icldist").resolve() == inputs / "cache" / "icldist"
