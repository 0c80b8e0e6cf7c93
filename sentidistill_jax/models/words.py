"""bfloat16 arrays as a CPU can move them: as 16-bit words.

XLA's CPU backend has no bfloat16 moves: it takes a layer out of stacked bfloat16 weights by
converting them forth and back, which takes longer than the products with a few hundred rows. Words
have no gradient, so this is for inference.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Tree = TypeVar("Tree")


def as_words(tree: Tree) -> Tree:
    """The tree with its bfloat16 arrays as uint16 ones of the same bits."""
    return _seen_as(tree, jnp.bfloat16, jnp.uint16)


def from_words(tree: Tree) -> Tree:
    """Inverse of `as_words`."""
    return _seen_as(tree, jnp.uint16, jnp.bfloat16)


def _seen_as(tree: Tree, dtype: jnp.dtype, other: jnp.dtype) -> Tree:
    def seen(leaf: jax.Array) -> jax.Array:
        return lax.bitcast_convert_type(leaf, other) if leaf.dtype == dtype else leaf

    return jax.tree.map(seen, tree)
