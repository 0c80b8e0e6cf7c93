"""Rendered scripts, run: what reaches the command, and when a job is started again.

Programs of the cluster (srun, scontrol, gcloud, docker) are scripts that write down what they were
asked.
"""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest
import yaml

from launch.__main__ import main

# What a shell would change if it saw it: spaces, quotes, variables, patterns, line ends, nothing.
HOSTILE = ["a b", "it's", '"', "$HOME", "`id`", "*", "\\", "two\nlines", "", "--flag=x y;z"]
RECORD = f"""#!{sys.executable}
import json, os, pathlib, sys
folder = pathlib.Path(__file__).parent
with (folder / "calls").open("a") as file:
    file.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
"""
# The hosts of gcloud run the command that they are sent; ssh answers with the next of the codes.
GCLOUD = """
if "describe" in sys.argv:
    states = (folder / "states").read_text().split()
    print(states[0])
    (folder / "states").write_text(" ".join(states[1:] or states))
if "ssh" in sys.argv:
    remote = next(word.partition("=")[2] for word in sys.argv if word.startswith("--command="))
    os.system("bash -c " + __import__("shlex").quote(remote))
    codes = (folder / "codes").read_text().split()
    (folder / "codes").write_text(" ".join(codes[1:] or codes))
    sys.exit(int(codes[0]))
"""


class Cluster:
    """A folder of programs that a script finds before all others."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        for program in ("scontrol", "docker", "gcsfuse", "mkdir", "mountpoint", "sleep"):
            self.program(program)
        self.program("gcloud", GCLOUD)
        # sudo --preserve-env=... COMMAND, and docker's other calls, do nothing else.
        self.program("sudo")
        self.answers(states="ACTIVE", codes="0")

    def program(self, name: str, then: str = "") -> None:
        (self.folder / name).write_text(RECORD + then)
        (self.folder / name).chmod(0o755)

    def answers(self, **words: str) -> None:
        for name, text in words.items():
            (self.folder / name).write_text(text)

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess:
        path = f"{self.folder}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", script], env={**os.environ, "PATH": path, **environment},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def calls(self, *words: str) -> list[list[str]]:
        """Commands so far that begin with the words."""
        lines = (self.folder / "calls").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [call for call in found if call[: len(words)] == list(words)]


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


@pytest.fixture
def rendered(capsys):
    def render(*arguments: str, command: list[str] | None = None) -> str:
        command = ["program", *HOSTILE] if command is None else command
        assert main([*arguments, "--dry_run", "--", *command]) == 0
        return capsys.readouterr().out

    return render


SLURM = ("--backend=slurm", "--topology=2xh100:8")
TPUVM = ("--backend=tpuvm", "--topology=v5e:4x4", "--zone=us-west4-a", "--image=image")
SSH = ("gcloud", "compute", "tpus", "tpu-vm", "ssh")


def test_words_reach_a_local_command_as_they_are(rendered, tmp_path):
    show = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
    script = rendered(
        "--backend=local", "--topology=local:1x1", "--env=A=it's $HOME",
        command=[*show, *HOSTILE],
    )  # fmt: skip
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout) == HOSTILE


def test_words_reach_a_slurm_command_as_they_are(rendered, cluster):
    cluster.program("srun", "print(os.environ['A'])")
    done = cluster.run(rendered(*SLURM, "--env=A=it's $HOME"))
    assert (done.returncode, done.stdout) == (0, "it's $HOME\n")
    assert cluster.calls("srun") == [["srun", "--kill-on-bad-exit=1", "program", *HOSTILE]]


def test_words_reach_a_container_on_a_tpu_host_as_they_are(rendered, cluster):
    done = cluster.run(rendered(*TPUVM, "--env=A=it's $HOME", "--storage=/data=/mnt/my data"))
    assert done.returncode == 0, done.stderr
    (call,) = cluster.calls("sudo", "docker", "run")
    assert call[call.index("image") :] == ["image", "program", *HOSTILE]
    assert call[call.index("--env") + 1] == "A=it's $HOME"
    assert call[call.index("--volume") + 1] == "/mnt/my data:/data"


def test_words_reach_a_pod_as_they_are(rendered):
    text = rendered("--backend=jobset", "--topology=v5e:4x4", "--image=image", "--env=A=1")
    (workers,) = yaml.safe_load(text)["spec"]["replicatedJobs"]
    (container,) = workers["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["program", *HOSTILE]
    assert container["env"] == [{"name": "A", "value": "1"}]  # a number would be refused


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [(0, 0, False), (1, 0, False), (2, 0, False), (75, 0, True), (75, 2, True), (75, 3, False),
     (137, 0, True), (143, 3, False)],
)  # fmt: skip
def test_slurm_queues_a_job_again_that_asks_for_it(code, restarts, requeued, rendered, cluster):
    cluster.program("srun", f"sys.exit({code})")
    script = rendered(*SLURM, "--max_restarts=3")
    done = cluster.run(script, SLURM_JOB_ID="42", SLURM_RESTART_COUNT=str(restarts))
    assert done.returncode == code
    assert cluster.calls("scontrol") == ([["scontrol", "requeue", "42"]] if requeued else [])


def test_slurm_reads_a_secret_from_its_file_or_does_not_start(rendered, cluster, tmp_path):
    cluster.program("srun", "print(os.environ['KEY'])")
    file = tmp_path / "my secret"
    script = rendered(*SLURM, f"--secret=KEY={file}")
    assert cluster.run(script).returncode == 2
    file.write_text("value\n")
    assert "value" not in script
    assert cluster.run(script).stdout == "value\n"
    assert len(cluster.calls("srun")) == 1


def test_slurm_mounts_into_a_container_and_nowhere_else(rendered, cluster, capsys):
    cluster.program("srun")
    flags = ["--storage=/data=/scratch/me", "--storage=/models=/models"]
    cluster.run(rendered(*SLURM, "--image=image.sqsh", *flags))
    ((_, _, image, mounts, *_),) = cluster.calls("srun")
    assert image == "--container-image=image.sqsh"
    assert mounts == "--container-mounts=/scratch/me:/data,/models:/models"
    assert main([*SLURM, *flags, "--", "program"]) == 2
    assert "storage is mounted into a container; give --image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("codes", "attempts", "expected"),
    [("0", 1, 0), ("1 0", 2, 0), ("75 75 0", 3, 0), ("2", 1, 2), ("1 2", 2, 2), ("1", 4, 1)],
)
def test_tpu_hosts_are_asked_again_but_for_a_mistake(codes, attempts, expected, rendered, cluster):
    cluster.answers(codes=codes)
    done = cluster.run(rendered(*TPUVM, "--max_restarts=3"))
    assert done.returncode == expected
    assert len(cluster.calls(*SSH)) == attempts
    (deletion,) = cluster.calls("gcloud", "compute", "tpus", "queued-resources", "delete")
    assert "sentidistill" in deletion  # at the end, whatever it was


def test_tpu_hosts_that_were_taken_away_are_queued_for_again(rendered, cluster):
    # Before the first attempt active; before the second suspended, gone, waiting, active.
    cluster.answers(codes="1 0", states="ACTIVE SUSPENDED WAITING WAITING WAITING ACTIVE")
    done = cluster.run(rendered(*TPUVM))
    assert done.returncode == 0 and len(cluster.calls(*SSH)) == 2
    deletions = cluster.calls("gcloud", "compute", "tpus", "queued-resources", "delete")
    assert len(deletions) == 2  # what was suspended, and at the end
    assert cluster.calls("sleep") == [["sleep", "30"]]


def test_tpu_slices_run_at_the_same_time_and_one_failure_counts(rendered, cluster):
    states = GCLOUD.partition('if "ssh"')[0]
    cluster.program("gcloud", states + "sys.exit(3 if 'distil-1' in sys.argv else 0)")
    flags = ["--name=distil", "--max_restarts=0"]
    script = rendered(*TPUVM[:1], "--topology=2xv5e:4x4", *TPUVM[2:], *flags)
    done = cluster.run(script)
    nodes = sorted(call[len(SSH)] for call in cluster.calls(*SSH))
    assert nodes == ["distil-0", "distil-1"]
    assert done.returncode == 3


def test_a_tpu_secret_is_fetched_on_the_host_and_in_no_command_line(rendered, cluster):
    cluster.program("gcloud", GCLOUD + "\nif 'secrets' in sys.argv: print('s3cr3t')")
    script = rendered(*TPUVM, "--secret=HF_TOKEN=my-secret")
    assert cluster.run(script).returncode == 0
    assert cluster.calls("gcloud", "secrets")[0][-1] == "--secret=my-secret"
    docker = next(call for call in cluster.calls("sudo") if "run" in call)
    assert docker[:3] == ["sudo", "--preserve-env=HF_TOKEN", "docker"]
    assert docker[docker.index("--env") + 1] == "HF_TOKEN"
    assert "s3cr3t" not in " ".join(word for call in cluster.calls() for word in call)


def test_buckets_are_mounted_on_tpu_hosts(rendered, cluster):
    cluster.program("mountpoint", "sys.exit(1)")
    assert cluster.run(rendered(*TPUVM, "--storage=/data=gs://bucket")).returncode == 0
    (mounted,) = cluster.calls("sudo", "gcsfuse")
    assert mounted[-2:] == ["bucket", "/mnt/storage-0"]
    (docker,) = cluster.calls("sudo", "docker", "run")
    assert docker[docker.index("--volume") + 1] == "/mnt/storage-0:/data"


def test_a_rendered_command_is_one_that_shells_read(rendered):
    line = rendered(*SLURM).split("\n\n", 1)[1].partition("\ncode=$?")[0].strip()
    assert shlex.split(line)[2:] == ["program", *HOSTILE]
