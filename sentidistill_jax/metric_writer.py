"""Metrics to a JSON-lines file and to TensorBoard; only process 0 writes."""

import contextlib
import json
import pathlib
from collections.abc import Mapping

import jax
from tensorboardX import SummaryWriter


class MetricWriter:
    """Appends scalars; a resumed run goes on in the same files.

    Args:
      directory: Gets `metrics.jsonl` and TensorBoard event files.
      resume_step: Lines of later steps are dropped: they are about to be written again.
    """

    def __init__(self, directory: pathlib.Path, *, resume_step: int = 0):
        self._active = jax.process_index() == 0
        if not self._active:
            return
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= resume_step:
                        kept.append(line + "\n")
                except ValueError:
                    continue  # the line that a kill cut short
        temporary = path.with_name(f".{path.name}")
        temporary.write_text("".join(kept))
        temporary.replace(path)
        self._file = path.open("a", buffering=1)
        self._events = SummaryWriter(str(directory), purge_step=resume_step, flush_secs=30)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of one step."""
        if not self._active:
            return
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        if self._active:
            with contextlib.closing(self._events), self._file:
                pass
