"""The local backend with real processes: environments, exit codes, restarts, signals."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from launch import local
from launch.__main__ import main
from launch.job import Job, LocalProcesses
from launch.local import environments

ROOT = pathlib.Path(__file__).parents[2]


def run(script: str, *, processes: int = 2, restarts: int = 0, flags: tuple[str, ...] = ()) -> int:
    """Runs a shell script in every process."""
    return main(
        ["--backend=local", f"--topology=local:{processes}x1", f"--max_restarts={restarts}",
         *flags, "--", "sh", "-c", script]
    )  # fmt: skip


def test_each_process_is_told_its_place():
    job = Job("distil", ["train"], LocalProcesses(3, 4), environment={"A": "1"})
    found = environments(job, port=1234)
    assert [one["SENTIDISTILL_PROCESS_ID"] for one in found] == ["0", "1", "2"]
    for variables in found:
        del variables["SENTIDISTILL_PROCESS_ID"]
        assert variables == {
            "A": "1",
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "4",
            "SENTIDISTILL_COORDINATOR": "localhost:1234",
            "SENTIDISTILL_NUM_PROCESSES": "3",
        }


def test_processes_see_their_environment_and_the_launchers(capfd, monkeypatch):
    monkeypatch.setenv("OF_THE_LAUNCHER", "seen")
    script = 'echo "$SENTIDISTILL_PROCESS_ID/$SENTIDISTILL_NUM_PROCESSES $OF_THE_LAUNCHER $MINE"'
    assert run(script, flags=("--env=MINE=a 'b' $HOME",)) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert lines == ["[0] 0/2 seen a 'b' $HOME", "[1] 1/2 seen a 'b' $HOME"]


def test_all_processes_have_the_same_coordinator_that_is_new_in_every_attempt(capfd):
    assert run("echo $SENTIDISTILL_COORDINATOR; exit 75", restarts=1) == 75
    addresses = [line.split()[1] for line in capfd.readouterr().out.splitlines()]
    assert len(addresses) == 4 and all(one.startswith("localhost:") for one in addresses)
    assert {addresses.count(one) for one in addresses} <= {2, 4}


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((0, 0), 0), ((0, 3), 3), ((5, 0), 5), ((2, 2), 2), ((1, 75), 75), ((0, 75), 75)],
)
def test_the_exit_code_is_that_of_the_process_that_failed(codes, expected, capfd):
    script = f"[ $SENTIDISTILL_PROCESS_ID = 0 ] && exit {codes[0]}; exit {codes[1]}"
    assert run(script) == expected
    assert "restart" not in capfd.readouterr().err


def test_the_first_failure_counts(capfd):
    assert run("[ $SENTIDISTILL_PROCESS_ID = 1 ] && exit 3; sleep 1; exit 4") == 3


def test_a_job_that_asks_for_it_is_started_again(tmp_path, capfd):
    """Ends with the restart code the first time, and succeeds the second."""
    mine = f"{tmp_path}/$SENTIDISTILL_PROCESS_ID"
    assert run(f"echo here; [ -e {mine} ] || {{ touch {mine}; exit 75; }}", restarts=10) == 0
    shown = capfd.readouterr()
    assert shown.out.count("[0] here") == shown.out.count("[1] here") == 2
    assert shown.err == "launch: restart 1 of 10\n"


@pytest.mark.parametrize("code", [1, 2, 3])
def test_other_failures_are_not_started_again(code, capfd):
    assert run(f"echo here; exit {code}", processes=1, restarts=10) == code
    assert capfd.readouterr().out == "[0] here\n"


def test_a_process_that_a_signal_ends_is_started_again_until_the_limit(capfd):
    assert run("echo here; kill -KILL $$", processes=1, restarts=2) == 128 + signal.SIGKILL
    shown = capfd.readouterr()
    assert shown.out.count("here") == 3
    assert shown.err == "launch: restart 1 of 2\nlaunch: restart 2 of 2\n"


def test_a_signal_to_the_launcher_reaches_all_processes(tmp_path):
    ready = f"{tmp_path}/$SENTIDISTILL_PROCESS_ID"
    script = f"trap 'echo told; exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"
    launcher = subprocess.Popen(
        [sys.executable, "-m", "launch", "--backend=local", "--topology=local:2x1", "--",
         "sh", "-c", script],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    launcher.send_signal(signal.SIGTERM)
    shown, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert sorted(shown.splitlines()) == ["[0] told", "[1] told"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=h100:8"], "needs PROCESSES x DEVICES, such as local:2x4"),
        (["--topology=v5e:4x4"], "needs PROCESSES x DEVICES"),
        (["--topology=local:1x1", "--image=image"], "leave out image, storage and secrets"),
        (["--topology=local:1x1", "--storage=/data=/mnt"], "leave out image"),
        (["--topology=local:1x1", "--secret=KEY=file"], "leave out image"),
    ],
)
def test_what_only_a_cluster_has_is_refused(flags, message, capfd):
    assert main(["--backend=local", *flags, "--", "sh", "-c", "echo here"]) == 2
    shown = capfd.readouterr()
    assert message in shown.err and not shown.out


def test_a_command_that_is_not_installed_is_named(capfd):
    arguments = ["--backend=local", "--topology=local:1x1", "--", "no-such-program"]
    assert main(arguments) == 2
    assert "launch: no-such-program is not installed" in capfd.readouterr().err


def test_processes_that_outlive_a_failure_are_killed(monkeypatch):
    monkeypatch.setattr(local, "_END_SECONDS", 0.5)
    began = time.monotonic()
    assert run("[ $SENTIDISTILL_PROCESS_ID = 1 ] && exit 3; exec sleep 60") == 3
    assert time.monotonic() - began < 30
