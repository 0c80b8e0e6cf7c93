"""The goldens (tests/golden/make_goldens.py), and how to compute the same here."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from safetensors.numpy import load_file

from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.hf import load_decoder, read_hf_directory

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
NAMES = (
    "llama_tied", "llama_untied", "llama3_scaled", "llama_linear", "qwen2", "qwen2_sliding",
    "qwen3", "gemma2", "gemma3",
)  # fmt: skip


def decoder_of(name: str, mesh: Mesh, **options: Any) -> Decoder:
    """The decoder whose weights are stored with a golden."""
    config, tensors = read_hf_directory(GOLDEN / name)
    return load_decoder(config, tensors, mesh, **options)


def golden(name: str) -> dict[str, np.ndarray]:
    """What transformers computed: tokens, logits, loss, greedy, gradient/<Hugging Face name>."""
    return load_file(GOLDEN / name / "golden.safetensors")


def logits_and_gradients(
    model: Decoder, tokens: np.ndarray, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray, Decoder]:
    """Logits [batch, seq, vocab], mean next-token cross-entropy, and its gradients as a decoder."""
    graphdef, state = nnx.split(model)

    def loss_of(state, tokens):
        model = nnx.merge(graphdef, state)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        hidden, _ = model(tokens, positions)
        logits = model.logits(hidden)
        logprobs = jax.nn.log_softmax(logits[:, :-1], axis=-1)
        return -jnp.mean(jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1)), logits

    with jax.set_mesh(mesh):
        step = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
        (loss, logits), gradients = step(state, jnp.asarray(tokens))
    return np.asarray(logits), np.asarray(loss), nnx.merge(graphdef, gradients)
