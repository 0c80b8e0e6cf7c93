"""Matrix products in the compute dtype that sum in float32, in both passes.

A plain einsum of bfloat16 operands either rounds its result, or hands a float32 cotangent to its
backward products, which then run at float32 speed (half of it on CPUs with bfloat16 units, less
elsewhere).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

# XLA's CPU runtime reorders a bfloat16 weight in every product, which only this many rows repay.
_CPU_ROWS = 128


def contract(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Two-operand einsum in the dtype of `left`, or one more exact; the result is float32.

    Every letter must occur in two of the three parts of `spec`. The gradient of each operand has
    its dtype, so that of a float32 parameter is never rounded.
    """
    product: Any = _contract
    return product(spec, left, right)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _contract(spec, left, right):
    return _product(spec, left, right)


def _product(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    dtype = left.dtype
    if jax.default_backend() == "cpu" and _better_in_float32(spec, left.shape):
        dtype = jnp.float32
    return jnp.einsum(
        spec, left.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32
    )


def _better_in_float32(spec: str, left_shape: tuple[int, ...]) -> bool:
    """Whether a CPU is slow at this product of bfloat16 operands, or has none: batched ones."""
    operands, result = spec.split("->")
    of_left, of_right = operands.split(",")
    batched = set(of_left) & set(of_right) & set(result)
    rows = math.prod(
        size for letter, size in zip(of_left, left_shape, strict=True) if letter not in of_right
    )
    return bool(batched) or rows < _CPU_ROWS


def _forward(spec, left, right):
    return _contract(spec, left, right), (left, right)


def _backward(spec, operands, cotangent):
    left, right = operands
    operand_specs, result = spec.split("->")
    of_left, of_right = operand_specs.split(",")
    cotangent = cotangent.astype(left.dtype)
    left_gradient = _product(f"{result},{of_right}->{of_left}", cotangent, right)
    right_gradient = _product(f"{of_left},{result}->{of_right}", left, cotangent)
    return left_gradient.astype(left.dtype), right_gradient.astype(right.dtype)


_contract.defvjp(_forward, _backward)
