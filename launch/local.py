"""This machine: several real processes that form one job, each with simulated or shared devices.

What a scheduler does for a pod, at small scale: processes know one another through
`jax.distributed`, the first failure ends all, and a job that asks to be started again is.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO

from sentidistill_jax.errors import EXIT_RESTART

from .job import Job, LocalProcesses

_END_SECONDS = 60  # that the others have to notice the end of one, and to save, before a SIGKILL


def environments(job: Job, port: int) -> list[dict[str, str]]:
    """What each process finds in its environment beyond that of the launcher.

    Raises:
      ValueError: For other hardware than local processes.
    """
    hardware = job.hardware
    if not isinstance(hardware, LocalProcesses):
        raise ValueError("backend=local needs PROCESSES x DEVICES, such as local:2x4.")
    if job.image or job.storage or job.secrets:
        raise ValueError(
            "backend=local runs in this environment: leave out image, storage and secrets."
        )
    return [
        {
            **job.environment,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(hardware.devices_per_process),
            "SENTIDISTILL_COORDINATOR": f"localhost:{port}",
            "SENTIDISTILL_NUM_PROCESSES": str(hardware.num_processes),
            "SENTIDISTILL_PROCESS_ID": str(index),
        }
        for index in range(hardware.num_processes)
    ]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: `--topology` says it all."""
    del parser


def render(job: Job, flags: argparse.Namespace) -> str:
    """The commands as a shell would take them."""
    del flags
    lines = []
    for variables in environments(job, port=8476):
        pairs = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        lines.append(f"{' '.join(pairs)} {shlex.join(job.command)} &")
    return "\n".join([*lines, "wait"]) + "\n"


def submit(job: Job, flags: argparse.Namespace) -> int:
    """Runs the job to its end; returns 0, or the exit code of the process that failed first."""
    del flags
    code = EXIT_RESTART
    for attempt in range(job.max_restarts + 1):
        code = _attempt(job)
        # Saved and stopped, or killed by a signal: both are worth another start.
        if code != EXIT_RESTART and code >= 0:
            return code
        if attempt < job.max_restarts:
            print(f"launch: restart {attempt + 1} of {job.max_restarts}", file=sys.stderr)
    return EXIT_RESTART if code > 0 else 128 - code


def _attempt(job: Job) -> int:
    processes = []
    printers = []
    for index, variables in enumerate(environments(job, _free_port())):
        process = subprocess.Popen(
            job.command,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        printer = threading.Thread(target=_prefix, args=(process.stdout, f"[{index}] "))
        printer.start()
        processes.append(process)
        printers.append(printer)

    def forward(number: int, frame: object) -> None:
        del frame
        _signal(processes, number)

    previous = {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _wait(processes)
    finally:
        for printer in printers:
            printer.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(processes: list[subprocess.Popen]) -> int:
    """Waits for all; once one has failed, the others get a minute."""
    first_failure, deadline = 0, float("inf")
    while None in (codes := [process.poll() for process in processes]):
        failed = [code for code in codes if code]
        if failed and not first_failure:
            first_failure, deadline = failed[0], time.monotonic() + _END_SECONDS
        if time.monotonic() > deadline:
            _signal(processes, signal.SIGKILL)
        time.sleep(0.1)
    # A lost process is a reason to start again, and so says whoever survived it.
    if EXIT_RESTART in codes:
        return EXIT_RESTART
    return first_failure or next((code for code in codes if code), 0)


def _signal(processes: list[subprocess.Popen], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _prefix(stream: IO[str], prefix: str) -> None:
    with stream:
        for line in stream:
            sys.stdout.write(prefix + line)
            sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
