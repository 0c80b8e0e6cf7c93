"""Registry of the benchmarks that configs and reports know by name.

A new one is a module that builds a `Benchmark`, and an entry here.
"""

from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (SENTIBENCH,)}


def get_benchmark(name: str) -> Benchmark:
    """Returns the benchmark called `name`.

    Raises:
      ValueError: If there is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark={name!r} is not known; choose one of {list(BENCHMARKS)}.")
    return BENCHMARKS[name]
