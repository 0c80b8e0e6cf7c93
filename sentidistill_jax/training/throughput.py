"""How fast a run is, what it holds, and a trace of where the time goes."""

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


class Speed:
    """Measures a loop from step to step.

    Args:
      flops_per_step: What an update needs; see `models.flops.train_step_flops`.
      peak_flops: Per second, of all devices together.
    """

    def __init__(self, flops_per_step: float, peak_flops: float):
        self._flops_per_step = flops_per_step
        self._peak_flops = peak_flops
        self._since = time.perf_counter()

    def start(self) -> None:
        """From now on time counts."""
        self._since = time.perf_counter()

    def scalars(self, tokens: int) -> dict[str, float]:
        """Metrics of the step that has just ended, which went over this many tokens."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        return {
            "speed/seconds_per_step": seconds,
            "speed/tokens_per_second": tokens / seconds,
            "speed/model_flops_utilisation": self._flops_per_step / seconds / self._peak_flops,
        }


def peak_flops(dtype: DTypeLike, *, size: int = 2048, repeats: int = 3) -> float:
    """Floating-point operations per second of the first device, as a large matrix product has them.

    Args:
      dtype: Of the operands; sums are float32.
      size: Of the square matrices.
      repeats: The fastest counts.
    """
    operand = jax.device_put(jnp.ones((size, size), dtype), jax.local_devices()[0])
    product = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    product(operand).block_until_ready()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(operand).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def device_memory() -> dict[str, float]:
    """Largest and current use over this process's devices, in GiB; {} where none is reported."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return {
        f"memory/{name}_gib": max(one[key] for one in stats) / 2**30
        for name, key in (("in_use", "bytes_in_use"), ("peak", "peak_bytes_in_use"))
        if all(key in one for one in stats)
    }


class StepProfiler:
    """A trace of some steps, for TensorBoard, Perfetto or XProf: device and host activity.

    Args:
      steps: (first, last) to trace, both included; () for none.
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
