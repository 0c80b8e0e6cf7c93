"""Leaving the loop between two steps when the user or the scheduler asks for it."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sentidistill_jax.stop_request import StopRequest

_max = jax.jit(jnp.max)


class StopSignals(StopRequest):
    """A request to stop on which all processes of a run agree.

    Args:
      mesh: Over which processes agree.
    """

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._vote: jax.Array | None = None  # the largest number of all in the step before
        self.reason: signal.Signals | None = None  # why the loop stopped

    def agreed(self) -> bool:
        """Whether to stop after this step; the same answer in every process.

        Signals reach processes at different times, or one alone. With more than one, each votes in
        every step and reads what all voted in the step before, so that nobody waits.
        """
        number = int(self.received or 0)
        if jax.process_count() > 1:
            before, self._vote = self._vote, self._of_all(number)
            number = 0 if before is None else int(before)
        self.reason = signal.Signals(number) if number else None
        return self.reason is not None

    def _of_all(self, number: int) -> jax.Array:
        one_per_device = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
        votes = jax.make_array_from_callback(
            (self._mesh.size,), one_per_device, lambda _: np.full((1,), number, np.int32)
        )
        return _max(votes)
