"""Whole sweeps through the command line, with trials in processes of their own."""

import json

import pytest
from tiny_sweep import start, write_workdir


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("sweep"))


def space_file(config, text):
    file = config.with_name("space.py")
    file.write_text(f"from sentidistill_jax.sweep.space import *\n\n{text}")
    return file


def results(config, name):
    return json.loads((config.parent / "run" / "sweep" / name / "results.json").read_text())


def test_a_study_compares_arms(config):
    space = space_file(
        config,
        """
def get_space():
    return Study(
        arms={
            "slow": Variant({"optimizer.learning_rate": 1e-4}),
            "fast": Variant({"optimizer.learning_rate": 1e-2}),
            "wrong": Variant({"objective.divergence": "none of these"}),
        },
        control="slow",
        seeds=(0, 1),
        goals=(Goal("train/loss", "minimize"), Goal("student/held_out/reviews/f1")),
    )
""",
    )
    process = start(config, space, "--workers=2", name="study")
    output, _ = process.communicate(timeout=170)
    assert process.returncode == 0, output
    print(output)
    found = results(config, "study")
    assert [trial["state"] for trial in found["trials"]] == ["done", "done", "failed"] * 2
    assert "none of these" in found["trials"][2]["failure"]
