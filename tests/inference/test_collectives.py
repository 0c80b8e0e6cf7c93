"""What devices that share a vocabulary exchange: candidates and sums, never rows of logits."""

import re

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import TINY, random_decoder

from sentidistill_jax import sharding
from sentidistill_jax.inference import batching, steps
from sentidistill_jax.inference.distribution import Keep
from sentidistill_jax.inference.requests import GenerateRequest, ScoreRequest
from sentidistill_jax.inference.sampling import SamplingConfig

KEEP = Keep(4, (1.0, 2.0), num_draws=3)
LIMITS = batching.Limits(256, 4)
TOKENS = np.arange(1, 9, dtype=np.int32)


@pytest.fixture(scope="module")
def model():
    mesh = sharding.make_mesh({"data": 4, "tensor": 2})
    graphdef, state = nnx.split(random_decoder(mesh))
    return mesh, graphdef, state


def programs(model, sampling):
    """The compiled text of scoring and of the first step of generation."""
    mesh, graphdef, state = model

    def compiled(step, batch, **static):
        batch = jax.device_put(batch, sharding.batch_sharding(mesh))
        with jax.set_mesh(mesh):
            return step.lower(state, batch, None, graphdef=graphdef, **static).compile().as_text()

    if sampling is None:
        request = ScoreRequest(TOKENS, 4, 3, TOKENS[4:7, None])
        ((_, batch),) = batching.score_batches([request], 0, LIMITS, pad_id=0)
        return compiled(steps.score, batch, keep=KEEP)
    ((_, prompts),) = batching.prompt_batches([GenerateRequest(TOKENS)], 0, 4, LIMITS, pad_id=0)
    return compiled(steps.prefill, prompts, slots=20, sampling=sampling, keep=KEEP)


@pytest.mark.parametrize(
    "sampling", [None, SamplingConfig(), SamplingConfig(temperature=0.7)], ids=str
)
def test_no_logits_move(model, sampling):
    program = programs(model, sampling)
    assert program is not None
    moved = [
        [int(size) for size in shape.split(",") if size]
        for shape in re.findall(
            r"\w+\[([\d,]*)\]\S* (?:all-gather|all-reduce|all-to-all|collective-permute)", program
        )
    ]
    assert moved  # activations do, and candidates
    vocab = {TINY.vocab_size, TINY.vocab_size // 2}
    assert not [shape for shape in moved if vocab & set(shape)]
