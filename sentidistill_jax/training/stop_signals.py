"""Leaving the loop between two steps when the user or the scheduler asks for it."""

import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sentidistill_jax import sharding

_any = jax.jit(jnp.any)


class StopSignals:
    """Turns SIGTERM and SIGINT into a request that the loop answers between two steps.

    Args:
      mesh: Over which processes agree.
    """

    def __init__(self, mesh: Mesh):
        self._requested: signal.Signals | None = None
        self._mesh = mesh
        self._vote: jax.Array | None = None  # whether anyone wanted to stop in the step before
        self.reason = ""  # why the loop stopped

    def __enter__(self) -> "StopSignals":
        self._previous = {
            number: signal.signal(number, self._request)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def _request(self, number: int, frame: Any) -> None:
        del frame
        self._requested = signal.Signals(number)

    def agreed(self) -> bool:
        """Whether to stop after this step; the same answer in every process.

        Signals reach processes at different times. With more than one, each votes in every step
        and reads what all voted in the step before, so that nobody waits.
        """
        requested = self._requested is not None
        if jax.process_count() > 1:
            before, self._vote = self._vote, self._of_all(requested)
            requested = before is not None and bool(before)
        if requested:
            self.reason = self._requested.name if self._requested else "another process"
        return requested

    def _of_all(self, requested: bool) -> jax.Array:
        rows = sharding.batch_rows(self._mesh) // jax.process_count()
        votes = jax.make_array_from_process_local_data(
            sharding.batch_sharding(self._mesh), np.full((rows,), requested)
        )
        return _any(votes)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
