"""Whole sweeps through the command line, with trials that really train."""

import json
import os
import pathlib
import signal
import time

import pytest
from tiny_sweep import ROOT, start, write_workdir

from sentidistill_jax.cli import main


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("sweep"))


def space_file(config, text):
    file = config.with_name("space.py")
    file.write_text(f"from sentidistill_jax.sweep.space import *\n\ndef get_space():\n    {text}")
    return file


def folder(config, name) -> pathlib.Path:
    return config.parent / "run" / "sweep" / name


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_study_compares_arms_and_goes_on_after_a_failure(config):
    space = space_file(
        config,
        """return Study(
            arms={
                "slow": Variant({"optimizer.learning_rate": 1e-4}),
                "fast": Variant({"optimizer.learning_rate": 1e-2}),
                "wrong": Variant({"objective.divergence": "none of these"}),
            },
            control="slow",
            seeds=(0, 1),
            goals=(Goal("train/loss", "minimize"), Goal("student/held_out/reviews/f1")),
        )""",
    )
    process = start(config, space, "--workers=2", name="study")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    found = json.loads((folder(config, "study") / "results.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["done", "done", "failed"] * 2
    assert found["trials"][2]["failure"].startswith("objective.divergence='none of these' must be")
    losses = [trial["measures"].get("train/loss") for trial in found["trials"]]
    gap = ((losses[1] - losses[0]) + (losses[4] - losses[3])) / 2
    (fast,) = (one for one in found["arms"] if one["difference"] and one["measure"] == "train/loss")
    assert fast["arm"] == "fast" and fast["difference"]["mean"] == pytest.approx(gap) and gap < 0
    trial = folder(config, "study") / "trials" / "0"
    assert (trial / "cache" / "knowdist").is_symlink() and (trial / "texts").is_symlink()


@pytest.mark.slow
def test_arms_start_from_one_student_that_is_trained_once(config):
    space = space_file(
        config,
        """first = Step("train", "first", changes={"name": "first"})
    return Study(
        arms={
            "slow": Variant({"train:optimizer.learning_rate": 1e-4}),
            "fast": Variant({"train:optimizer.learning_rate": 1e-2}),
        },
        control="slow",
        seeds=(0,),
        steps=(first, Step("train", changes={"student.source": "students/first"})),
        goals=(Goal("train/loss", "minimize"),),
    )""",
    )
    process = start(config, space, "--workers=2", name="shared")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    (shared,) = (folder(config, "shared") / "shared").iterdir()
    trials = [folder(config, "shared") / "trials" / number for number in "01"]
    for trial in trials:
        assert (trial / "students" / "first").resolve() == (shared / "students" / "first").resolve()
    made_from = [
        json.loads((trial / "students" / "knowdist" / "made_from.json").read_text())
        for trial in trials
    ]
    assert made_from[0]["initial"] == made_from[1]["initial"] != ""
    assert [one["optimizer"]["learning_rate"] for one in made_from] == [1e-4, 1e-2]


@pytest.mark.slow
def test_trials_outlive_their_controller_which_another_replaces(config):
    space = space_file(
        config,
        'return Space({"optimizer.learning_rate": LogUniform(1e-4, 1e-2)},'
        ' goals=(Goal("train/loss", "minimize"),))',
    )
    flags = ("--trials=1", "--config.data.epochs=1500", "--config.checkpoint.interval=200")
    trial = folder(config, "kills") / "trials" / "0"
    metrics = trial / "students" / "knowdist" / "metrics.jsonl"

    def steps() -> list[int]:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        return [json.loads(line)["step"] for line in lines if line.endswith("}")]

    first = start(config, space, *flags, name="kills")
    wait_for(lambda: len(steps()) > 30)
    first.kill()
    first.communicate()
    second = start(config, space, *flags, name="kills")
    assert second.stdout is not None
    assert second.stdout.readline() == "trial 0 still runs\n"
    third = start(config, space, *flags, name="kills")
    output, _ = third.communicate(timeout=60)
    assert third.returncode == 2 and "another controller runs the sweep" in output
    os.kill(int((trial / "lock").read_text()), signal.SIGKILL)
    output, _ = second.communicate(timeout=400)
    assert second.returncode == 0, output
    assert "trial 0 is started again (exit code 75)" in output
    assert "trial 0 is done" in output
    assert steps() == list(range(1, 6000 + 1))


@pytest.mark.slow
def test_a_trial_that_stopped_at_a_rung_goes_on_from_its_checkpoint(config):
    space = space_file(
        config,
        """loss = Goal("train/loss", "minimize")
    return Space(
        {"optimizer.learning_rate": Choice((1e-2, 1e-4))},
        goals=(loss,),
        halving=Halving(rungs=(100,), factor=2, goal=loss),
    )""",
    )
    flags = ("--sampler=grid", "--config.data.epochs=400", "--config.checkpoint.interval=1000")
    process = start(config, space, *flags, name="halving")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    said = ("trial 0 stops at rung 1", "trial 1 stops at rung 1", "trial 0 goes on beyond rung 1")
    assert [line for line in output.splitlines() if "rung 1" in line] == list(said)
    fast, slow = (folder(config, "halving") / "trials" / number for number in "01")
    students = [trial / "students" / "knowdist" for trial in (fast, slow)]
    lines = [(one / "metrics.jsonl").read_text().splitlines() for one in students]
    assert [json.loads(line)["step"] for line in lines[0]] == list(range(1, 1600 + 1))
    assert 100 <= len(lines[1]) < 1600 and (students[1] / "checkpoints").is_dir()
    found = json.loads((folder(config, "halving") / "results.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["done", "stopped at a rung"]


def test_the_spaces_of_this_repository_fit_their_configs(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    for file in sorted((ROOT / "configs" / "sweeps").glob("*.py")):
        flags = [f"--space={file}", "--config=configs/icldist.py", "--trials=5"]
        assert main(["sweep", *flags, f"--workdir={tmp_path}", "--dry_run"]) == 0
        assert capsys.readouterr().out.count("optimizer.learning_rate") == 5


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ('Space({"optimizer.learning_rat": Uniform(0, 1)})', "no field 'optimizer.learning_rat'"),
        ('Space({"seed": Choice((0,))})', "eval/mean_f1 decides, but no step watches it"),
        ('Study({"a": Variant({"data": {"epochs": 1}})}, "a")', "data is a section of fields"),
        (
            'Study({"a": Variant({"data.epochs": "two"})}, "a")',
            "data.epochs='two' must be of type int",
        ),
        ("None", "must have a function get_space"),
    ],
)
def test_what_fits_no_config_is_refused_before_anything_is_written(config, capsys, plan, message):
    flags = [f"--config={config}", f"--workdir={config.parent / 'run'}", "--name=refused"]
    assert main(["sweep", *flags, f"--space={space_file(config, f'return {plan}')}"]) == 2
    assert message in capsys.readouterr().err
    assert not folder(config, "refused").exists()
