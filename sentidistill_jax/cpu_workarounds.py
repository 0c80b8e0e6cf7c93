"""What XLA's CPU backend and the C library are slow at, and how it is avoided.

All of it is for laptops and tests: on accelerators none of this runs.
"""

import ctypes
import math
import sys
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Tree = TypeVar("Tree")

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Lets freed memory stay with the process; call it before threads start.

    A training step on a CPU allocates its temporaries, a gigabyte or more, and frees them. By
    default the C library returns them to the system each time, which then clears every page anew
    when it is touched: a tenth to a fifth of a step. With one heap that is not trimmed, the second
    step finds the memory of the first. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_MMAP_MAX, 0)  # large blocks come from the heap too
    mallopt(_ARENA_MAX, 1)  # and from the one heap that can grow to their size


def bitcast_to_words(tree: Tree) -> Tree:
    """The tree with its bfloat16 arrays as uint16 ones of the same bits.

    The backend has no bfloat16 moves: it takes a layer out of stacked weights, or writes to a
    cache, by converting all of it forth and back. Words have no gradient: this is for inference.
    """
    return _bitcast(tree, jnp.bfloat16, jnp.uint16)


def bitcast_from_words(tree: Tree) -> Tree:
    """The tree with its uint16 arrays as bfloat16 ones of the same bits."""
    return _bitcast(tree, jnp.uint16, jnp.bfloat16)


def einsum(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Two-operand einsum in the dtype of `left` that sums in float32.

    The backend has no batched products of bfloat16, and multiplies one row by a large matrix ten
    times slower than two.
    """
    of_left, of_right, of_result = spec.replace("->", ",").split(",")
    dtype = left.dtype
    if set(of_left) & set(of_right) & set(of_result):
        dtype = jnp.float32
    kept = [size for letter, size in zip(of_left, left.shape, strict=True) if letter in of_result]
    one_row = of_left[0] == of_result[0] and math.prod(kept) == 1
    doubled = one_row and dtype == jnp.bfloat16
    rows = jnp.concatenate([left, left]) if doubled else left
    product = jnp.einsum(
        spec, rows.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32
    )
    return product[:1] if doubled else product


def _bitcast(tree: Tree, dtype: jnp.dtype, other: jnp.dtype) -> Tree:
    def seen(leaf: jax.Array) -> jax.Array:
        return lax.bitcast_convert_type(leaf, other) if leaf.dtype == dtype else leaf

    return jax.tree.map(seen, tree)
