"""Cutting arrays along their rows into equal chunks for `jax.lax.scan`, and back."""

import jax
import jax.numpy as jnp


def split_rows(tree, chunk_rows: int):
    """Every array [rows, ...] as [chunks, rows per chunk, ...], with zeros in the last chunk.

    Chunks are made even, so that none has more than `chunk_rows` rows and each holds less than one
    row of padding on average.
    """
    rows = len(jax.tree.leaves(tree)[0])
    chunks = -(-rows // chunk_rows)
    even_rows = -(-rows // chunks)

    def split(array):
        padding = [(0, chunks * even_rows - rows)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(chunks, even_rows, *array.shape[1:])

    return jax.tree.map(split, tree)


def join_rows(tree, rows: int):
    """The inverse of `split_rows`: the padding after `rows` goes."""
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:rows], tree)
