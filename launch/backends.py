"""The ways to run a job: what each of them must do, and the table of them.

A backend is one module, or any object, that follows `Backend`, and one entry in `BACKENDS`.
"""

import argparse
from typing import Protocol

from . import jobset, local, slurm, tpuvm
from .job import Job


class Backend(Protocol):
    """One way to run a job."""

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Adds the flags that this backend alone has."""
        ...

    def render(self, job: Job, flags: argparse.Namespace) -> str:
        """The text that would be submitted.

        Raises:
          ValueError: If the backend cannot run such a job.
        """
        ...

    def submit(self, job: Job, flags: argparse.Namespace) -> int:
        """Submits the job, or runs it; returns an exit code.

        Raises:
          FileNotFoundError: If the program that takes the job is not installed.
        """
        ...


BACKENDS: dict[str, Backend] = {
    "local": local,
    "jobset": jobset,
    "slurm": slurm,
    "tpuvm": tpuvm,
}
