"""Renders a job for a backend and submits it; --dry_run prints exactly what would be submitted.

python -m launch --backend=jobset --name=distil --topology=v5e:4x4 --image=IMAGE \
    --storage=/data=gs://BUCKET -- sentidistill train --config=configs/pod.py --workdir=/data/run
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from launch import jobset, local, slurm, tpuvm
from launch.job import Job, parse_hardware
from sentidistill_jax.errors import EXIT_USAGE

_SUBMIT = {
    "jobset": ["kubectl", "apply", "--filename=-"],
    "slurm": ["sbatch"],
    "tpuvm": ["bash", "-s"],
}


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, Job]:
    """Flags and the job they describe.

    Raises:
      ValueError: If the job makes no sense.
    """
    flags, dashes, command = list(arguments), "--" in arguments, []
    if dashes:
        at = flags.index("--")
        flags, command = flags[:at], flags[at + 1 :]
    parser = argparse.ArgumentParser(prog="python -m launch", description=__doc__)
    parser.add_argument("--backend", required=True, choices=["local", *_SUBMIT])
    parser.add_argument("--name", default="sentidistill")
    parser.add_argument(
        "--topology", required=True, help="v5e:4x4, 2xv5e:16x16, 4xh100:8, local:2x4"
    )
    parser.add_argument("--image", default="", help="container image with the package")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--secret", action="append", default=[], metavar="NAME=REFERENCE")
    parser.add_argument("--storage", action="append", default=[], metavar="PATH=gs://BUCKET")
    parser.add_argument("--max_restarts", type=int, default=10)
    parser.add_argument("--dry_run", action="store_true", help="print, submit nothing")
    parser.add_argument("--namespace", default="default", help="jobset")
    parser.add_argument("--service_account", default="", help="jobset")
    parser.add_argument("--partition", default="", help="slurm")
    parser.add_argument("--time_limit", default="24:00:00", help="slurm")
    parser.add_argument("--zone", default="", help="tpuvm")
    parser.add_argument("--project", default="", help="tpuvm")
    parser.add_argument("--spot", action="store_true", help="tpuvm")
    parsed = parser.parse_args(flags)
    job = Job(
        name=parsed.name,
        command=command,
        hardware=parse_hardware(parsed.topology),
        image=parsed.image,
        environment=_pairs("env", parsed.env),
        secrets=_pairs("secret", parsed.secret),
        storage=_pairs("storage", parsed.storage),
        max_restarts=parsed.max_restarts,
    )
    return parsed, job


def render(flags: argparse.Namespace, job: Job) -> str:
    """What the backend submits."""
    if flags.backend == "local":
        return local.render(job)
    if flags.backend == "jobset":
        return jobset.render(job, namespace=flags.namespace, service_account=flags.service_account)
    if flags.backend == "slurm":
        return slurm.render(job, partition=flags.partition, time_limit=flags.time_limit)
    return tpuvm.render(job, zone=flags.zone, project=flags.project, spot=flags.spot)


def main(arguments: Sequence[str]) -> int:
    """Runs `python -m launch ARGUMENTS`; returns the exit code."""
    try:
        flags, job = parse(arguments)
        rendered = render(flags, job)
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return EXIT_USAGE
    if flags.dry_run:
        print(rendered, end="")
        return 0
    if flags.backend == "local":
        return local.run(job)
    try:
        return subprocess.run(_SUBMIT[flags.backend], input=rendered, text=True).returncode
    except FileNotFoundError as error:
        print(f"launch: {error.filename} is not installed; --dry_run prints.", file=sys.stderr)
        return EXIT_USAGE


def _pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            raise ValueError(f"--{flag}={word} must be --{flag}=NAME=VALUE.")
        pairs[name] = value
    return pairs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
