"""Real processes are stopped, killed and started anew; several: tests/multiprocess."""

import json
import os
import pathlib
import subprocess
import sys
from collections import Counter

import pytest
from tiny_run import STEPS, tiny_config, write_cache, write_model

SCRIPT = pathlib.Path(__file__).with_name("train_in_process.py")


@pytest.fixture
def run(tmp_path):
    """Starts the training of a run in a process of its own and returns its exit code and output."""
    model = write_model(tmp_path / "model")
    cache = write_cache(tmp_path / "cache", model)
    (tmp_path / "config.json").write_text(tiny_config(model).to_json())
    found = {"PYTHONPATH": os.pathsep.join(sys.path)}  # the helpers of the tests

    def start(workdir, *options):
        command = [sys.executable, SCRIPT, tmp_path / "config.json", cache, workdir, *options]
        done = subprocess.run(
            command, env=os.environ | found, timeout=300, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    return start


def seen(folder: pathlib.Path) -> dict[int, Counter]:
    """Step -> sequences that each attempt at it was given; all attempts must agree."""
    attempts: dict[int, list[Counter]] = {}
    for path in folder.glob("seen-*.jsonl"):
        for line in path.read_text().splitlines():
            step, sequences = json.loads(line)
            attempts.setdefault(step, []).append(Counter(map(tuple, sequences)))
    for step, counts in attempts.items():
        assert all(count == counts[0] for count in counts), f"step {step} differs"
    return {step: counts[0] for step, counts in attempts.items()}


def metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in line if "speed/" not in name} for line in lines]


def last_sums(workdir: pathlib.Path) -> dict[str, int]:
    """A sum over the bits of every array of the last state."""
    return json.loads((workdir / "checkpoints" / str(STEPS) / "checksums" / "metadata").read_text())


def test_stopped_and_killed_is_bit_for_bit_what_was_never_interrupted(run, tmp_path):
    whole, broken = tmp_path / "whole" / "run", tmp_path / "broken" / "run"
    assert run(whole)[0] == 0
    code, output = run(broken, "--signal=SIGTERM", "--before-step=3")
    assert code == 0 and f"stopped by SIGTERM after step 3 of {STEPS}" in output
    assert run(broken, "--signal=SIGKILL", "--before-step=6")[0] == -9
    assert len(metrics(broken)) < STEPS
    assert run(broken)[0] == 0
    assert metrics(broken) == metrics(whole)
    assert last_sums(broken) == last_sums(whole)
    assert seen(broken.parent) == seen(whole.parent)
