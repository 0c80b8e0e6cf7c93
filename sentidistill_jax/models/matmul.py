"""Matrix products in the compute dtype that sum in float32, in both passes.

A plain einsum of bfloat16 operands either rounds its result, or hands a float32 cotangent to its
backward products, which then run at float32 speed (half of it on CPUs with bfloat16 units, less
elsewhere).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from sentidistill_jax import cpu_workarounds
from sentidistill_jax.sharding import backend

# By this name a remat policy may keep products with weights, which `_einsum` hides from policies
# that look for dot_general.
WEIGHT_PRODUCT = "weight_product"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptedWeight:
    """weight + down up, never added up: see training/trainable.py."""

    weight: jax.Array  # [*inputs, *outputs]
    down: jax.Array  # [*inputs, rank]
    up: jax.Array  # [rank, *outputs]

    def __getitem__(self, index: Any) -> "AdaptedWeight":
        """Itself for `...`, which is how modules read a parameter."""
        assert index is Ellipsis
        return self


def einsum(spec: str, left: jax.Array, right: jax.Array | AdaptedWeight) -> jax.Array:
    """Two-operand einsum in the dtype of `left`, or one more exact; the result is float32.

    Every letter must occur in two of the three parts of `spec`. The gradient of each operand has
    its dtype, so that of a float32 parameter is never rounded.
    """
    product: Any = _einsum
    if isinstance(right, AdaptedWeight):
        of_left, of_right, of_result = spec.replace("->", ",").split(",")
        inputs = "".join(letter for letter in of_right if letter not in of_result)
        outputs = "".join(letter for letter in of_right if letter in of_result)
        kept = "".join(letter for letter in of_left if letter not in inputs)
        thin = product(f"{of_left},{inputs}r->{kept}r", left, right.down).astype(left.dtype)
        added = product(f"{kept}r,r{outputs}->{of_result}", thin, right.up)
        result = product(spec, left, right.weight) + added
    else:
        result = product(spec, left, right)
    return result if _is_batched(spec) else checkpoint_name(result, WEIGHT_PRODUCT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _einsum(spec, left, right):
    return _product(spec, left, right)


def _product(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    if backend() == "cpu":
        return cpu_workarounds.einsum(spec, left, right)
    return jnp.einsum(spec, left, right.astype(left.dtype), preferred_element_type=jnp.float32)


def _is_batched(spec: str) -> bool:
    """Whether a letter is in both operands and the result."""
    return bool(set.intersection(*map(set, spec.replace("->", ",").split(","))))


def _forward(spec, left, right):
    return _einsum(spec, left, right), (left, right)


def _backward(spec, operands, cotangent):
    left, right = operands
    operand_specs, result = spec.split("->")
    of_left, of_right = operand_specs.split(",")
    cotangent = cotangent.astype(left.dtype)
    left_gradient = _product(f"{result},{of_right}->{of_left}", cotangent, right)
    right_gradient = _product(f"{of_left},{result}->{of_right}", left, cotangent)
    return left_gradient.astype(left.dtype), right_gradient.astype(right.dtype)


_einsum.defvjp(_forward, _backward)
