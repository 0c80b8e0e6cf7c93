"""Real processes on this machine train one student together, lose one another, and go on."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from helpers import random_cache
from safetensors.numpy import load_file

from configs import base
from launch.job import Job, LocalProcesses
from launch.local import environments
from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.errors import EXIT_RESTART

pytestmark = pytest.mark.slow

WORKER = pathlib.Path(__file__).with_name("worker.py")
# A packed row holds one to three of these; 27 sequences are an epoch of 3 batches or so.
LENGTHS = [(5 + n % 7, 3 + n % 4) for n in range(27)]
PEER_SECONDS = 5.0
HANG_SECONDS = 20.0  # many times what a step takes to compile, which a test before has done


def settings_of(**changes: Any) -> dict:
    config: Any = base.get_config()
    config.data.update(
        dict(global_batch_size=8, seq_length=16, scored_length=8, epochs=2, micro_batches=1)
    )
    config.checkpoint.interval = 2
    config.optimizer.warmup_fraction = 0.0
    config.peak_tflops = 1.0  # not measured
    config.objective.name, config.objective.label_weight = "icldist", 1.0
    config.update_from_flattened_dict(changes)
    return config.to_dict()


def write(folder: pathlib.Path) -> None:
    """The cache, for a student whose tokenizer has no chat template."""
    random_cache(folder / "cache", LENGTHS, chat_template_fingerprint=fingerprint(None))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


class Processes:
    """A job on this machine, its output in files."""

    def __init__(
        self, folder: pathlib.Path, count: int, devices: int, mesh: dict, *options: str, **more: str
    ):
        self.folder = folder
        settings = folder / "settings.json"
        settings.write_text(json.dumps(settings_of(**{f"mesh.{k}": v for k, v in mesh.items()})))
        with socket.socket() as listener:
            listener.bind(("localhost", 0))
            port = listener.getsockname()[1]
        job = Job("test", ["unused"], LocalProcesses(count, devices))
        self.logs = [folder / f"log-{index}" for index in range(count)]
        self.processes = []
        for log, variables in zip(self.logs, environments(job, port), strict=True):
            variables["SENTIDISTILL_PEER_SECONDS"] = str(PEER_SECONDS)
            variables |= more
            with log.open("w") as output:
                process = subprocess.Popen(
                    [sys.executable, WORKER, folder, settings, *options],
                    env={"PATH": "/usr/bin:/bin", **INHERITED, **variables},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            self.processes.append(process)

    def output(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)

    def wait(self, seconds: float = 180) -> list[int]:
        deadline = time.monotonic() + seconds
        try:
            return [p.wait(max(deadline - time.monotonic(), 0.1)) for p in self.processes]
        except subprocess.TimeoutExpired:
            for process in self.processes:
                process.kill()
            pytest.fail(f"still running after {seconds} s:\n{self.output()}")

    def wait_for_step(self, step: int, seconds: float = 180) -> None:
        metrics, deadline = self.folder / "run" / "metrics.jsonl", time.monotonic() + seconds
        while not metrics.exists() or len(metrics.read_text().splitlines()) < step:
            assert time.monotonic() < deadline, self.output()
            assert all(process.poll() is None for process in self.processes), self.output()
            time.sleep(0.05)


# How little is optimised when compiling, and where compiled programs lie; see conftest.py.
INHERITED = {
    name: os.environ[name]
    for name in (
        "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    )
}  # fmt: skip


def losses(folder: pathlib.Path) -> list[float]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert [entry["step"] for entry in metrics] == list(range(1, len(metrics) + 1))
    return [entry["train/loss"] for entry in metrics]


def read_by(folder: pathlib.Path, count: int) -> list[np.ndarray]:
    return [np.load(folder / f"read-{index}-of-{count}.npy") for index in range(count)]


def run(folder: pathlib.Path, count: int, devices: int, mesh: dict) -> list[float]:
    job = Processes(folder, count, devices, mesh)
    assert job.wait() == [0] * count, job.output()
    return losses(folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with four devices: what all others are compared with."""
    folder = tmp_path_factory.mktemp("alone")
    write(folder)
    return run(folder, 1, 4, {"fsdp": 2}), load_file(folder / "student" / "model.safetensors")


def assert_as_alone(folder: pathlib.Path, got: list[float], alone) -> None:
    """The same losses, step by step, and the same student."""
    expected, student = alone
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    for name, tensor in load_file(folder / "student" / "model.safetensors").items():
        np.testing.assert_allclose(tensor, student[name], atol=2e-5, err_msg=name)


# Four processes, over which fsdp goes, come where a job goes on.
@pytest.mark.parametrize(
    ("devices", "mesh"),
    [(4, {"fsdp": 2, "tensor": 2}), (1, {"data": 1, "tensor": 2})],
    ids=["of-four-devices", "tensor-across"],
)
def test_processes_together_train_what_one_does(devices, mesh, folder, alone):
    got = run(folder, 2, devices, mesh)
    assert len(got) >= 5
    assert_as_alone(folder, got, alone)
    # Every example once an epoch; where tensor goes across processes both read all.
    read = read_by(folder, 2)
    once = np.repeat(np.arange(len(LENGTHS)), 2)
    if mesh.get("data") == 1:
        assert all(np.array_equal(np.sort(one), once) for one in read)
    else:
        np.testing.assert_array_equal(np.sort(np.concatenate(read)), once)
        assert all(len(one) for one in read)


def test_killed_in_mid_step_the_others_end_with_a_message_and_the_job_goes_on(folder, alone):
    job = Processes(folder, 2, 2, {"fsdp": 4}, "--pace=0.5")
    job.wait_for_step(3)
    job.processes[1].kill()
    killed = time.monotonic()
    codes = job.wait(60)
    # The watch misses it after PEER_SECONDS, and looks every second.
    assert time.monotonic() - killed < PEER_SECONDS + 20
    assert codes == [EXIT_RESTART, -signal.SIGKILL], job.output()
    assert re.search(r"no sign of life for 5 s from process 1 on \S+", job.output())
    # On another number of processes and devices, from the checkpoint that the first layout wrote.
    assert_as_alone(folder, run(folder, 4, 1, {"fsdp": 2}), alone)


def test_a_frozen_process_is_taken_for_lost(folder):
    job = Processes(folder, 2, 1, {}, "--pace=0.5")
    job.wait_for_step(2)
    job.processes[1].send_signal(signal.SIGSTOP)
    assert job.processes[0].wait(60) == EXIT_RESTART
    job.processes[1].kill()
    job.wait()
    assert "no sign of life" in job.output()


def test_a_main_thread_that_hangs_ends_the_job_and_is_named(folder):
    """Its other threads live: it still gives signs of life, and the others wait for it."""
    variable = {"SENTIDISTILL_HANG_SECONDS": str(HANG_SECONDS)}
    job = Processes(folder, 2, 1, {}, "--hang=1", **variable)
    assert job.wait(120) == [EXIT_RESTART] * 2, job.output()
    # It has a watch of its own, which speaks before the coordinator ends.
    hung = job.logs[1].read_text()
    assert re.search(
        rf"no step has begun for {HANG_SECONDS:g} s: the others wait for process 1", hung
    )
    assert "in paced" in hung  # where it hangs
    assert "in paced" not in job.logs[0].read_text()


def test_told_to_one_process_a_preemption_stops_all_after_the_same_step(folder, alone):
    job = Processes(folder, 2, 2, {}, "--pace=0.5")
    job.wait_for_step(2)
    job.processes[1].send_signal(signal.SIGTERM)
    assert job.wait(90) == [EXIT_RESTART] * 2, job.output()
    stopped = set(re.findall(r"stopped by SIGTERM after step (\d+)", job.output()))
    assert len(stopped) == 1
    assert_as_alone(folder, run(folder, 1, 2, {}), alone)
