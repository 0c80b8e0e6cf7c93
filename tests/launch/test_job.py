"""Specifications of jobs and hardware, and what of them is refused."""

from typing import Any

import pytest

from launch.job import GPUS, GpuNodes, Job, LocalProcesses, parse_hardware
from sentidistill_jax.planner.topology import CHIPS, Topology


def job(**changes: Any) -> Job:
    return Job(
        **{"name": "distil", "command": ["train"], "hardware": GpuNodes("h100", 8)} | changes
    )


@pytest.mark.parametrize(
    ("text", "hardware"),
    [
        ("h100:8", GpuNodes("h100", 8, 1)),
        ("4xh200:1", GpuNodes("h200", 1, 4)),
        ("local:2x4", LocalProcesses(2, 4)),
        ("v5e:4x4", Topology(CHIPS["v5e"], (4, 4))),
        ("2xv5p:4x4x4", Topology(CHIPS["v5p"], (4, 4, 4), 2)),
    ],
)
def test_hardware_is_read_from_one_word(text, hardware):
    assert parse_hardware(text) == hardware


@pytest.mark.parametrize("gpu", GPUS)
def test_every_gpu_of_the_table_is_hardware(gpu):
    assert parse_hardware(f"3x{gpu}:4") == GpuNodes(gpu, 4, 3)


@pytest.mark.parametrize(
    "text", ["", "h100", "h100:0", "0xh100:8", "local:0x4", "local:2x0", "local:2", "t4:1", "v5e"]
)
def test_what_is_no_hardware_is_refused_with_examples(text):
    with pytest.raises(ValueError, match=r"GPU nodes are 4xh100:8, local processes local:2x4\.$"):
        parse_hardware(text)


@pytest.mark.parametrize("name", ["a", "distil", "d1-2", "a" * 40])
def test_names_of_hosts_are_accepted(name):
    assert job(name=name).name == name


@pytest.mark.parametrize("name", ["", "1distil", "Distil", "distil_1", "distil-", "a" * 41, "a b"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="must be at most 40 lower-case letters"):
        job(name=name)


@pytest.mark.parametrize(
    "variable",
    ["HF_TOKEN", "hf_token", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "APIKEY", "DB_PASSWORD"],
)
def test_values_of_secrets_are_kept_out(variable):
    with pytest.raises(ValueError, match=f"pass --secret={variable}=REFERENCE"):
        job(environment={variable: "value"})
    assert job(secrets={variable: "name/key"}).secrets == {variable: "name/key"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": []}, "the command is missing"),
        ({"environment": {"1A": "x"}}, "'1A' is no name of an environment variable"),
        ({"environment": {"A B": "x"}}, "'A B' is no name"),
        ({"secrets": {"A-B": "x"}}, "'A-B' is no name"),
        ({"storage": {"data": "gs://bucket"}}, "storage path 'data' must be absolute"),
        ({"max_restarts": -1}, "max_restarts=-1 must not be negative"),
    ],
)
def test_jobs_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        job(**changes)


def test_an_image_is_needed_only_where_it_is_asked_for():
    assert job(image="registry/image:1").need_image() == "registry/image:1"
    with pytest.raises(ValueError, match="--image is missing; see launch/Dockerfile"):
        job().need_image()
