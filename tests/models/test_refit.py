"""Refitted decoders against the whole ones that they were pruned from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from goldens import decoder_of
from helpers import TINY, random_decoder

from sentidistill_jax.models.pruning import prune_depth, prune_width
from sentidistill_jax.models.refit import refit
from sentidistill_jax.sharding import make_mesh

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(0, TINY.vocab_size, length, np.int32) for length in (150, 90, 40, 130, 7)]
LENGTHS = [RNG.integers(20, 200) for _ in range(24)]


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 2, "tensor": 2}, jax.devices()[:4])


def error(decoder, whole, texts, mesh):
    """Mean squared distance of final hidden states, relative to their size."""
    total = size = 0.0
    with jax.set_mesh(mesh):
        for tokens in texts:
            one, other = (
                model(jnp.asarray(tokens)[None], jnp.arange(len(tokens))[None])[0]
                for model in (decoder, whole)
            )
            total += float(jnp.sum((one - other) ** 2))
            size += float(jnp.sum(other**2))
    return total / size


@pytest.mark.parametrize("name", ["llama_tied", "gemma2", "qwen3"])
def test_a_pruned_decoder_comes_nearer_to_the_whole_one_on_other_texts(name, mesh):
    whole = decoder_of(name, mesh)
    vocab = whole.config.vocab_size
    texts = [RNG.integers(0, vocab, length, np.int32) for length in LENGTHS]
    layers = (0,)
    pruned = prune_depth(whole, layers)
    before = nnx.to_flat_state(nnx.state(pruned))
    fitted = refit(pruned, whole, layers, texts[:20], mesh)
    assert error(fitted, whole, texts[20:], mesh) < 0.9 * error(pruned, whole, texts[20:], mesh)
    for (path, old), (_, new) in zip(before, nnx.to_flat_state(nnx.state(pruned)), strict=True):
        assert old.get_value() is new.get_value(), path  # the pruned one is as it was
    changed = {
        ".".join(map(str, path))
        for (path, old), (_, new) in zip(before, nnx.to_flat_state(nnx.state(fitted)), strict=True)
        if not np.array_equal(old.get_value(), new.get_value())
    }
    assert changed <= {"layers.mlp.down_proj", "layers.post_mlp_norm.scale"}


def test_what_was_not_pruned_is_hardly_changed(mesh):
    whole = random_decoder(mesh, dataclasses.replace(TINY, num_layers=3))
    fitted = refit(whole, whole, range(3), TEXTS, mesh)
    assert error(fitted, whole, TEXTS, mesh) < 1e-9


def test_narrower_mlps_take_over_what_their_channels_did(mesh):
    whole = random_decoder(mesh, dataclasses.replace(TINY, num_layers=2))
    kept = np.arange(TINY.mlp_dim // 2)
    pruned = prune_width(whole, {"mlp": kept}, mesh)
    fitted = refit(pruned, whole, range(2), TEXTS, mesh)
    assert error(fitted, whole, TEXTS, mesh) < 0.8 * error(pruned, whole, TEXTS, mesh)


def test_how_sequences_lie_in_rows_does_not_matter(mesh):
    whole = random_decoder(mesh, dataclasses.replace(TINY, num_layers=3))
    pruned = prune_depth(whole, (0, 2))
    one, other = (
        refit(pruned, whole, (0, 2), texts, mesh).layers.mlp.down_proj.get_value()
        for texts in (TEXTS, TEXTS[::-1])
    )
    np.testing.assert_allclose(one, other, atol=1e-4)
