"""The command for a real topology; two layers, so that it compiles within a minute."""

import json
import pathlib

import pytest

from sentidistill_jax.cli import main

pytest.importorskip("libtpu", reason="pip install 'sentidistill-jax[tpu]'")
pytestmark = [pytest.mark.tpu, pytest.mark.slow]

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def plan(tmp_path, *arguments: str) -> dict:
    output = tmp_path / "plan.json"
    small = ["--config.student.layers=(0, 1)", "--config.student.source=smollm2-135m"]
    options = [f"--output={output}", f"--cache_dir={tmp_path}", f"--workdir={tmp_path}"]
    assert main(["plan", "--config=configs/pod.py", *small, *options, *arguments]) == 0
    return json.loads(output.read_text())


def test_a_plan_that_fits_and_is_read_from_the_cache_again(tmp_path):
    arguments = ["--topology=v5e:2x2", "--config.data.global_batch_size=4", "--steps=100"]
    values = plan(tmp_path, *arguments)
    assert values["fits"] and values["chips"] == 4 and values["mesh"]["fsdp"] == 4
    assert 0 < values["peak_gib"] < values["limit_gib"]
    assert values["unknown_trip_counts"] == 0
    assert sum(entry["sent_bytes"] for entry in values["collectives"]) > 0
    assert values["serial"]["chip_hours"] >= values["overlapped"]["chip_hours"] > 0
    assert plan(tmp_path, *arguments) == values


def test_one_chip_is_planned(tmp_path):
    values = plan(tmp_path, "--topology=v5e:1x1", "--config.data.global_batch_size=1")
    assert values["fits"] and (values["chips"], values["collectives"]) == (1, [])


def test_what_does_not_fit_gets_a_change_that_does(tmp_path):
    values = plan(
        tmp_path,
        "--topology=v5e:2x2",
        "--config.data.global_batch_size=256",
        "--config.student.remat=none",
    )
    assert not values["fits"] and values["peak_gib"] > values["limit_gib"]
    assert values["largest"]
    assert values["tried"] and values["tried"][-1]["fits"]
    assert values["best"]["fits"]


def test_a_search_takes_the_fastest_that_it_compiled(tmp_path):
    values = plan(
        tmp_path, "--topology=v5e:2x2", "--config.data.global_batch_size=4",
        "--config.data.seq_length=512", "--search=2",
    )  # fmt: skip
    tried = values["tried"]
    assert [one["change"].partition(", student")[2] for one in tried] == [
        ".remat=none, data.micro_batches=1", ".remat=dots, data.micro_batches=1",
    ]  # fmt: skip
    best = values.get("best", values)
    seconds = [one["exposed_step_seconds"] for one in tried]
    assert best["exposed"]["step_seconds"] == min(seconds + [values["exposed"]["step_seconds"]])
