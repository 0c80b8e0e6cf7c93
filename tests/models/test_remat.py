"""What each policy computes twice, counted in the traced gradient."""

import jax
import jax.numpy as jnp
from flax import nnx
from helpers import TINY

from sentidistill_jax.models.decoder import Decoder


def products(remat: str) -> int:
    """Matrix products in the gradient of one scanned layer, forward and backward."""
    decoder = nnx.eval_shape(lambda: Decoder(TINY, nnx.Rngs(0), remat=remat))
    graphdef, state = nnx.split(decoder)
    tokens = jnp.arange(6).reshape(1, 6)

    def loss(state):
        return jnp.sum(nnx.merge(graphdef, state)(tokens, tokens)[0])

    return str(jax.make_jaxpr(jax.grad(loss))(state)).count("dot_general[")


def test_dots_repeats_attention_and_full_all_but_the_last_product():
    none = products("none")
    assert none == 3 * 9  # seven weights and two of attention, forward and twice backward
    assert products("dots") == none + 2
    assert products("full") == none + 8
