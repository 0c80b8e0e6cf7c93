"""Slurm: an sbatch script, one process to a node.

Slurm sends SIGTERM before the time limit or a preemption; a run that has saved its state exits with
the restart code, and the script queues itself again.
"""

import argparse
import shlex
import subprocess

from sentidistill_jax.errors import EXIT_RESTART

from .job import GRACE_SECONDS, GpuNodes, Job


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--partition` and `--time_limit`."""
    group = parser.add_argument_group("--backend=slurm")
    group.add_argument("--partition", default="", help="the cluster's default if empty")
    group.add_argument("--time_limit", default="24:00:00", help="HH:MM:SS of one attempt")


def submit(job: Job, flags: argparse.Namespace) -> int:
    """Hands the script to `sbatch`; returns its exit code."""
    return subprocess.run(["sbatch"], input=render(job, flags), text=True).returncode


def render(job: Job, flags: argparse.Namespace) -> str:
    """The script for `sbatch`.

    Raises:
      ValueError: For other hardware than GPU nodes.
    """
    hardware = job.hardware
    if not isinstance(hardware, GpuNodes):
        raise ValueError("backend=slurm needs GPU nodes, such as 4xh100:8.")
    directives = [
        f"--job-name={job.name}",
        f"--nodes={hardware.num_nodes}",
        "--ntasks-per-node=1",
        f"--gpus-per-node={hardware.gpu}:{hardware.per_node}",
        "--exclusive",
        f"--time={flags.time_limit}",
        "--requeue",
        "--open-mode=append",
        f"--output={job.name}-%j.log",
        f"--signal=TERM@{GRACE_SECONDS}",
    ]
    if not f"{flags.partition}{flags.time_limit}".isprintable():
        raise ValueError("--partition and --time_limit must be one line each.")
    if flags.partition:
        directives.insert(1, f"--partition={flags.partition}")
    lines = ["#!/bin/bash", *(f"#SBATCH {directive}" for directive in directives)]
    lines += ["set -u", ""]
    for variable, value in job.environment.items():
        lines.append(f"export {variable}={shlex.quote(value)}")
    for variable, path in job.secrets.items():
        # Two commands, so that a file that is not there stops the script.
        lines += [f"{variable}=$(cat {shlex.quote(path)}) || exit 2", f"export {variable}"]
    srun = ["srun", "--kill-on-bad-exit=1"]
    if job.image:
        srun.append(f"--container-image={job.image}")
        mounts = [f"{source}:{path}" for path, source in job.storage.items()]
        srun += [f"--container-mounts={','.join(mounts)}"] if mounts else []
    elif job.storage:
        raise ValueError("storage is mounted into a container; give --image, or leave it out.")
    for path, source in job.storage.items():
        if source.startswith("gs://"):
            raise ValueError(
                f"storage {path}={source}: Slurm nodes mount no buckets; give a directory."
            )
    lines += [
        "",
        shlex.join([*srun, *job.command]),
        "code=$?",
        "# Saved and stopped, or killed by a signal: both are worth another start.",
        f'if {{ [ "$code" -eq {EXIT_RESTART} ] || [ "$code" -gt 128 ]; }} &&'
        f' [ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.max_restarts} ]; then',
        '  scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"
