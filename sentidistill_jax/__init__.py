"""Targeted distillation of sentiment ability into compact Flax students.

`import sentidistill_jax as sd` has the functions of `api`, such as `sd.train`; they are imported
when the first is asked for, since JAX comes with them.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["build_corpus", "evaluate", "load_config", "predict", "teach", "train"]  # noqa: F822


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
