"""A trace of some steps, for TensorBoard, Perfetto or XProf."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax


class StepProfiler:
    """Records device and host activity from the first to the last of the given steps.

    Args:
      steps: (first, last), both traced; () for none.
      directory: Gets the trace.

    Raises:
      ValueError: If the steps are no such pair.
    """

    def __init__(self, steps: Sequence[int], directory: pathlib.Path):
        if len(steps) not in (0, 2) or (steps and not 1 <= steps[0] <= steps[1]):
            raise ValueError(
                f"profile_steps={tuple(steps)} must be () or (first, last) with 1 <= first <= last."
            )
        self._first, self._last = steps or (0, 0)
        self._directory = directory
        self._active = False

    def before(self, step: int) -> None:
        """Starts if this step is the first to trace, or a resumed run enters in the middle."""
        if self._first <= step <= self._last and not self._active:
            jax.profiler.start_trace(str(self._directory))
            self._active = True

    def after(self, step: int, outputs: Any) -> None:
        """Stops once the last step has been computed."""
        if self._active and step >= self._last:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Stops if the run ended in between."""
        if self._active:
            jax.profiler.stop_trace()
            self._active = False
