"""What stage entry functions call their config."""

from typing import Any

import jax.numpy as jnp

# A locked ml_collections.ConfigDict with the fields of configs/base.py. Its attributes are made at
# run time, so a type checker can say nothing about them.
Config = Any


def float_dtype(field: str, name: str) -> Any:
    """The dtype that a field names.

    Raises:
      ValueError: If it is neither float32 nor bfloat16.
    """
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"{field}={name!r} must be 'float32' or 'bfloat16'.")
    return jnp.dtype(name)
