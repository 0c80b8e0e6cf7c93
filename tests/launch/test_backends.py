"""The command: flags of each backend, what is handed over to whom, and a backend from outside."""

import os
import pathlib

import pytest

from launch.__main__ import main, parse
from launch.backends import BACKENDS
from launch.job import Job

COMMAND = ["--", "sentidistill", "train"]
ACCEPTED = {
    "local": ["--topology=local:2x4"],
    "jobset": ["--topology=v5e:4x4", "--image=image"],
    "slurm": ["--topology=2xh100:8"],
    "tpuvm": ["--topology=v5e:4x4", "--image=image", "--zone=us-west4-a"],
}
OWN_FLAGS = {
    "jobset": ["--namespace=team", "--service_account=trainer"],
    "slurm": ["--partition=gpu", "--time_limit=1:00:00"],
    "tpuvm": ["--zone=us-east5-b", "--project=mine", "--spot"],
}


def run(backend: str, *arguments: str) -> int:
    return main([f"--backend={backend}", *ACCEPTED[backend], *arguments, *COMMAND])


def stand_in(folder: pathlib.Path, program: str, script: str) -> None:
    """A program of that name that does what the script says."""
    path = folder / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs that are found before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


class Bell:
    """A backend with one flag that only writes what it would do into a file."""

    def add_flags(self, parser):
        parser.add_argument("--rings", type=int, default=1)

    def render(self, job: Job, flags) -> str:
        if job.image:
            raise ValueError("backend=bell rings without an image.")
        return f"{job.name} rings {flags.rings} times\n"

    def submit(self, job: Job, flags) -> int:
        pathlib.Path(job.command[0]).write_text(self.render(job, flags))
        return flags.rings


def test_a_backend_from_outside_is_one_entry(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(BACKENDS, "bell", Bell())
    rung = tmp_path / "rung"
    arguments = ["--backend=bell", "--topology=local:1x1", "--name=noon", "--rings=12"]
    assert main([*arguments, "--dry_run", "--", str(rung)]) == 0
    assert capsys.readouterr().out == "noon rings 12 times\n" and not rung.exists()
    assert main([*arguments, "--", str(rung)]) == 12  # its exit code is the launcher's
    assert rung.read_text() == "noon rings 12 times\n"
    assert main([*arguments, "--image=image", "--", str(rung)]) == 2
    assert "backend=bell rings without an image." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("slurm", "--rings=12")


@pytest.mark.parametrize("backend", OWN_FLAGS)
def test_a_backend_has_its_flags_and_no_others(backend, capsys):
    assert run(backend, *OWN_FLAGS[backend], "--dry_run") == 0
    rendered = capsys.readouterr().out
    for flag in OWN_FLAGS[backend]:
        assert flag.partition("=")[2] in rendered
    for other in set(BACKENDS) - {backend}:
        with pytest.raises(SystemExit) as exit_:
            run(other, OWN_FLAGS[backend][0])
        assert exit_.value.code == 2
        assert f"unrecognized arguments: {OWN_FLAGS[backend][0]}" in capsys.readouterr().err


def test_help_without_a_backend_tells_the_flags_of_all(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    shown = capsys.readouterr().out
    flags = [flag.partition("=")[0] for own in OWN_FLAGS.values() for flag in own]
    assert exit_.value.code == 0 and all(flag in shown for flag in flags)
    with pytest.raises(SystemExit):
        main(["--backend=slurm", "--help"])
    shown = capsys.readouterr().out
    assert "--partition" in shown and "--zone" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--topology=v5e:4x4"], "required: --backend"),
        (["--backend=slurm"], "required: --topology"),
        (["--backend=ecs", "--topology=v5e:4x4"], "invalid choice: 'ecs'"),
        (["--backend=local", "--topology=local:1x1", "--max_restarts=few"], "invalid int value"),
        (["--backend=local", "--topology=local:1x1", "sentidistill"], "unrecognized arguments"),
    ],
)
def test_unknown_flags_end_with_the_usage(arguments, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, *COMMAND])
    assert exit_.value.code == 2 and words in capsys.readouterr().err


def test_flags_become_a_job():
    flags = [
        "--env=A=1", "--env=B=x=y", "--secret=KEY=name/key", "--storage=/data=gs://bucket",
        "--storage=/scratch=/mnt", "--max_restarts=3", "--name=distil",
    ]  # fmt: skip
    _, job = parse(["--backend=jobset", *ACCEPTED["jobset"], *flags, "--", "train", "--", "--env"])
    assert job.environment == {"A": "1", "B": "x=y"} and job.secrets == {"KEY": "name/key"}
    assert job.storage == {"/data": "gs://bucket", "/scratch": "/mnt"}
    assert (job.name, job.image, job.max_restarts) == ("distil", "image", 3)
    assert job.command == ["train", "--", "--env"]  # all that follows the first dashes


def test_a_variable_that_is_given_twice_is_refused(capsys):
    assert run("slurm", "--env=A=1", "--env=A=2") == 2
    assert capsys.readouterr().err == "launch: --env=A=... is given twice; leave one out.\n"


@pytest.mark.parametrize(
    ("backend", "program", "reader"),
    [("jobset", "kubectl", "apply --filename=-"), ("slurm", "sbatch", "")],
)
def test_what_is_submitted_is_what_a_dry_run_prints(backend, program, reader, programs, capsys):
    stand_in(programs, program, f'echo "$@" > {programs}/arguments; cat > {programs}/got; exit 7')
    assert run(backend, "--dry_run") == 0
    assert not (programs / "got").exists()
    rendered = capsys.readouterr().out
    assert run(backend) == 7
    assert (programs / "got").read_text() == rendered
    assert (programs / "arguments").read_text() == f"{reader}\n"


@pytest.mark.parametrize(
    ("backend", "program"), [("jobset", "kubectl"), ("slurm", "sbatch"), ("tpuvm", "bash")]
)
def test_a_program_that_is_not_installed_is_named(backend, program, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(backend) == 2
    message = capsys.readouterr().err
    assert message == f"launch: {program} is not installed; --dry_run prints.\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_job_without_a_command_is_refused(backend, capsys):
    assert main([f"--backend={backend}", *ACCEPTED[backend]]) == 2
    assert "the command is missing; write it after --" in capsys.readouterr().err
