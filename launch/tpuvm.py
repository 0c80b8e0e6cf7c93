"""Cloud TPU VMs: a script that queues for the slices, runs the container on every host, cleans up.

Each attempt asks for the hardware anew if it is gone, so that spot capacity that was taken away is
queued for again; the state lies in storage.
"""

import argparse
import shlex
import subprocess

from sentidistill_jax.errors import EXIT_USAGE
from sentidistill_jax.planner.topology import Topology

from .job import GRACE_SECONDS, Job

_END = "REMOTE"  # of what runs on every host, in the script


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--zone`, `--project` and `--spot`."""
    group = parser.add_argument_group("--backend=tpuvm")
    group.add_argument("--zone", default="", help="such as us-west4-a; needed")
    group.add_argument("--project", default="", help="gcloud's own if empty")
    group.add_argument("--spot", action="store_true", help="cheaper, taken away when needed")


def submit(job: Job, flags: argparse.Namespace) -> int:
    """Runs the script here until the job has ended; returns the job's exit code."""
    return subprocess.run(["bash", "-s"], input=render(job, flags), text=True).returncode


def render(job: Job, flags: argparse.Namespace) -> str:
    """The bash script.

    Raises:
      ValueError: Without an image or a zone, or for other hardware than TPUs.
    """
    topology = job.hardware
    if not isinstance(topology, Topology):
        raise ValueError("backend=tpuvm needs TPUs, such as v5e:4x4.")
    if not flags.zone:
        raise ValueError("--zone is missing, such as --zone=us-west4-a.")
    where = [f"--zone={flags.zone}"]
    where += [f"--project={flags.project}"] if flags.project else []
    tpus = "gcloud compute tpus"
    queued = f"{tpus} queued-resources"
    create = [
        *queued.split(), "create", job.name, *where,
        f"--accelerator-type={topology.accelerator_type}",
        f"--runtime-version={topology.chip.runtime_version}",
    ]  # fmt: skip
    if topology.num_slices == 1:
        nodes = [job.name]
        create.append(f"--node-id={job.name}")
    else:
        nodes = [f"{job.name}-{index}" for index in range(topology.num_slices)]
        create += [f"--node-count={topology.num_slices}", f"--node-prefix={job.name}"]
    if flags.spot:
        create.append("--spot")
    here, remote = shlex.join(where), _remote(job)
    if _END in remote.splitlines():
        raise ValueError(
            f"a line of the job is {_END!r}, which ends the script of a host; change it."
        )
    run_on = [
        f'  {tpus} tpu-vm ssh {node} {here} --worker=all --command="$remote" &\n  pids+=($!)'
        for node in nodes
    ]
    return f"""#!/bin/bash
# {job.name} on {topology}: {topology.num_slices} x {topology.hosts_per_slice} hosts.
set -u

# Runs on every host.
remote=$(cat <<'{_END}'
{remote}
{_END}
)

clean_up() {{
  {queued} delete {job.name} {here} --force --quiet
}}
trap clean_up EXIT

state() {{
  {queued} describe {job.name} {here} --format='value(state.state)' 2>/dev/null
}}

acquire() {{
  case "$(state)" in
    ACTIVE) return ;;
    SUSPENDED | SUSPENDING | FAILED) clean_up ;;
  esac
  [ -n "$(state)" ] || {shlex.join(create)} || exit 1
  until [ "$(state)" = ACTIVE ]; do
    [ "$(state)" != FAILED ] || exit 1
    sleep 30
  done
}}

code=1
for attempt in $(seq 0 {job.max_restarts}); do
  echo "attempt $attempt"
  acquire
  pids=()
{chr(10).join(run_on)}
  code=0
  for pid in "${{pids[@]}}"; do
    wait "$pid" || code=$?
  done
  [ "$code" -ne 0 ] && [ "$code" -ne {EXIT_USAGE} ] || break
done
exit "$code"
"""


def _remote(job: Job) -> str:
    lines = ["set -eu"]
    docker = [
        "sudo", "docker", "run", "--rm", "--privileged", "--net=host",
        f"--name={job.name}", f"--stop-timeout={GRACE_SECONDS}",
    ]  # fmt: skip
    for index, (path, source) in enumerate(job.storage.items()):
        if source.startswith("gs://"):
            mounted = f"/mnt/storage-{index}"
            bucket = shlex.quote(source.removeprefix("gs://"))
            lines += [
                f"sudo mkdir -p {mounted}",
                f"mountpoint -q {mounted} ||"
                f" sudo gcsfuse --implicit-dirs -o allow_other {bucket} {mounted}",
            ]
            source = mounted
        docker += ["--volume", f"{source}:{path}"]
    for variable, value in job.environment.items():
        docker += ["--env", f"{variable}={value}"]
    for variable, secret in job.secrets.items():
        name = shlex.quote(secret)
        lines.append(f"{variable}=$(gcloud secrets versions access latest --secret={name})")
        lines.append(f"export {variable}")
        docker += ["--env", variable]
    if job.secrets:
        docker[1:1] = [f"--preserve-env={','.join(job.secrets)}"]
    lines.append(f"sudo docker rm --force {job.name} >/dev/null 2>&1 || true")
    lines.append(shlex.join([*docker, job.need_image(), *job.command]))
    return "\n".join(lines)
