"""Real processes are stopped, killed and started anew, on one or more of them."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
from collections import Counter

import pytest
from tiny_run import STEPS, tiny_config, write_cache, write_model

SCRIPT = pathlib.Path(__file__).with_name("train_in_process.py")
# Of JAX itself, so that processes after the first compile nothing.
COMPILED = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.fixture
def run(tmp_path):
    """Starts `processes` trainings of one run and returns their exit codes."""
    model = write_model(tmp_path / "model")
    caches = {size: write_cache(tmp_path / f"cache-{size}", model, size) for size in (4, 16)}
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    found = {"PYTHONPATH": os.pathsep.join(sys.path)}  # the helpers of the tests

    def start(workdir, *options, sequences=4, rows=1, processes=1):
        config = tiny_config(model)
        config.data.global_batch_size = rows
        (tmp_path / "config.json").write_text(config.to_json())
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        command = [sys.executable, SCRIPT, tmp_path / "config.json", caches[sequences], workdir]
        command += [*options, "--processes", str(processes), "--port", str(port)]
        started = [
            subprocess.Popen(
                [*map(str, command), "--process", str(index)],
                env=os.environ | COMPILED | compiled | found,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(processes)
        ]
        outputs = [process.communicate(timeout=300)[0] for process in started]
        return [process.returncode for process in started], "".join(outputs)

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
    assert run(whole)[0] == [0]
    codes, output = run(broken, "--signal=SIGTERM", "--before-step=3")
    assert codes == [0] and f"stopped by SIGTERM after step 3 of {STEPS}" in output
    assert run(broken, "--signal=SIGKILL", "--before-step=6")[0] == [-9]
    assert len(metrics(broken)) < STEPS
    assert run(broken)[0] == [0]
    assert metrics(broken) == metrics(whole)
    assert last_sums(broken) == last_sums(whole)
    assert seen(broken.parent) == seen(whole.parent)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one_or_four(run, tmp_path):
    size = {"sequences": 16, "rows": 4}  # two steps an epoch
    assert run(tmp_path / "whole" / "run", "--devices=4", **size)[0] == [0]
    two = tmp_path / "two" / "run"
    codes, output = run(
        two, "--devices=2", "--signal=SIGTERM", "--before-step=2", processes=2, **size
    )
    assert codes == [0, 0], output
    stopped = len(metrics(two))
    assert 2 <= stopped < STEPS
    for name, devices, processes in (("one", 4, 1), ("four", 1, 4)):
        workdir = tmp_path / name / "run"
        shutil.copytree(two, workdir)
        codes, output = run(workdir, f"--devices={devices}", processes=processes, **size)
        assert codes == [0] * processes, output
        for got, expected in zip(
            metrics(workdir), metrics(tmp_path / "whole" / "run"), strict=True
        ):
            assert got == pytest.approx(expected, rel=1e-4)
        rest = counts_of(tmp_path / name)
        assert rest.keys() == set(range(stopped + 1, STEPS + 1))
        given = counts_of(tmp_path / "two") | rest
        for epoch in range(3):
            sequences = given[2 * epoch + 1] + given[2 * epoch + 2]
            assert len(sequences) == 16 and set(sequences.values()) == {1}


def counts_of(folder: pathlib.Path) -> dict[int, Counter]:
    """Step -> sequences of all processes together, for steps that were trained."""
    trained = len(metrics(folder / "run"))
    counts: dict[int, Counter] = {}
    for path in folder.glob("seen-*.jsonl"):
        for line in path.read_text().splitlines():
            step, sequences = json.loads(line)
            if step <= trained:
                counts[step] = counts.get(step, Counter()) + Counter(map(tuple, sequences))
    return counts
