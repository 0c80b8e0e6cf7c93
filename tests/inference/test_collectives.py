"""What devices that share a vocabulary exchange: candidates and sums, never rows of logits."""

import re

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import TINY, random_decoder

from sentidistill_jax import sharding
from sentidistill_jax.inference import steps
from sentidistill_jax.inference.distribution import Keep
from sentidistill_jax.inference.sampling import SamplingConfig

KEEP = Keep(4, (1.0, 2.0), num_draws=3)
ROWS = 8


@pytest.fixture(scope="module")
def model():
    mesh = sharding.make_mesh({"data": 4, "tensor": 2})
    graphdef, state = nnx.split(random_decoder(mesh))
    return mesh, graphdef, state


def program(model, sampling):
    """The compiled text of scoring, or of a decoding step with some sampling."""
    mesh, graphdef, state = model
    of_rows = np.zeros(ROWS, np.int32)

    def compiled(step, *arguments, **static):
        return step.lower(state, *arguments, graphdef=graphdef, **static).compile().as_text()

    with jax.set_mesh(mesh):
        if sampling is None:
            hidden = np.zeros((ROWS, TINY.embed_dim), np.float32)
            chosen = np.zeros((ROWS, 4), np.int32)
            asked = (hidden, 0, chosen, of_rows, of_rows, None, 1.0)
            return compiled(steps.distributions, *asked, keep=KEEP)
        rows = steps.empty_rows(
            state, graphdef=graphdef, rows=ROWS, length=128, stop_length=1, chosen=2,
            penalized=False,
        )  # fmt: skip
        stops = np.full((4, 1), steps.NO_STOP, np.int32)
        return compiled(
            steps.decode, rows, None, of_rows > 0, stops, 8, 0, 1.0, steps=4, sampling=sampling,
            keep=KEEP,
        )  # fmt: skip


@pytest.mark.parametrize(
    "sampling", [None, SamplingConfig(), SamplingConfig(temperature=0.7)], ids=str
)
def test_no_logits_move(model, sampling):
    text = program(model, sampling)
    moved = [
        [int(size) for size in shape.split(",") if size]
        for shape in re.findall(
            r"\w+\[([\d,]*)\]\S* (?:all-gather|all-reduce|all-to-all|collective-permute)", text
        )
    ]
    assert moved  # activations do, and candidates
    vocab = {TINY.vocab_size, TINY.vocab_size // 2}
    assert not [shape for shape in moved if vocab & set(shape)]
