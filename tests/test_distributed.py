"""Finding one's place in a job; whole jobs are in tests/multiprocess."""

import re
import types

import pytest

from sentidistill_jax.distributed import Cluster, barrier, detect, hung_processes

EXPLICIT = {
    "SENTIDISTILL_COORDINATOR": "host-0:8476",
    "SENTIDISTILL_NUM_PROCESSES": "4",
    "SENTIDISTILL_PROCESS_ID": "3",
}


def test_the_environment_says_where_a_process_belongs():
    slurm = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
    assert detect(EXPLICIT | slurm, tpu=True) == Cluster("environment", "host-0:8476", 4, 3)
    assert detect(slurm, tpu=True) == Cluster("slurm")
    assert detect({}, tpu=True) == Cluster("tpu")
    assert detect(slurm | {"SLURM_NTASKS": "1"}) is None and detect({}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SENTIDISTILL_COORDINATOR": ""}, "but not SENTIDISTILL_COORDINATOR"),
        ({"SENTIDISTILL_NUM_PROCESSES": "many"}, "must be numbers"),
        ({"SENTIDISTILL_PROCESS_ID": "4"}, "0 <= process id < number of processes"),
        ({"SENTIDISTILL_COORDINATOR": "host"}, "HOST:PORT"),
    ],
)
def test_half_a_place_is_an_error(changes, words):
    with pytest.raises(ValueError, match=words):
        detect(EXPLICIT | changes)


def test_a_barrier_names_who_is_missing():
    store = {"barrier/save/0": "", "barrier/save/2": ""}
    client = types.SimpleNamespace(
        key_value_set=lambda key, value, allow_overwrite: store.update({key: value}),
        key_value_dir_get=lambda prefix: list(store.items()),
    )
    with pytest.raises(TimeoutError, match=re.escape("processes 1, 3 of 4 did not reach 'save'")):
        barrier(client, "save", 0, 4, 0.0)
    barrier(client, "save", 1, 3, 0.0)


def test_who_hangs_is_told_from_the_steps_that_each_has_begun():
    assert hung_processes({0: 7, 1: 6, 2: 7, 3: 5}).endswith("wait for processes 1, 3")
    assert hung_processes({0: 7, 1: 7}) == "all wait at the same point"
