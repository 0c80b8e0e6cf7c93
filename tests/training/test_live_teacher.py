"""An objective from outside the package whose teacher lives beside the student."""

import json

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import random_decoder
from tiny_run import tiny_config, train, write_cache, write_model

from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.losses import forward_kl
from sentidistill_jax.training.objectives import OBJECTIVES, Mean, Objective

pytestmark = pytest.mark.usefixtures("one_device")


class LiveTeacher(Objective):
    """Forward KL over the whole vocabulary from a decoder that reads the same rows."""

    def __init__(self, **settings):
        del settings  # those of the section `objective`
        decoder = random_decoder(make_mesh({}, jax.devices()[:1]), seed=1)
        self.graphdef, self.teacher = nnx.split(decoder)

    def teacher_signal(self, teacher, batch, progress):
        decoder = nnx.merge(self.graphdef, teacher)
        hidden, _ = decoder(batch.tokens, batch.positions, segment_ids=batch.segment_ids)
        scored = jnp.take_along_axis(hidden, batch.scored[:, :, None], axis=1)
        return jax.nn.log_softmax(scored @ decoder.head_weight.T)

    def loss(self, student, signal, batch, normalizers, *, progress, num_kinds, mesh):
        logprobs = jax.nn.log_softmax(student.hidden @ student.head_weight.T)
        kl = forward_kl(logprobs, signal) * batch.loss_mask
        of_kind = jax.nn.one_hot(batch.kind_ids, num_kinds)
        means = Mean(
            jnp.einsum("bs,bsk->k", kl, of_kind), jnp.einsum("bs,bsk->k", batch.loss_mask, of_kind)
        )
        return jnp.sum(kl) / normalizers.tokens, {"live_kl_nats": means}


def test_it_trains_by_name_and_its_term_is_among_the_metrics(tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "live", LiveTeacher)
    model = write_model(tmp_path / "model")
    config = tiny_config(model)
    config.objective.name = "live"
    config.data.update(global_batch_size=2, epochs=2)  # all four sequences in each of two steps
    train(config, [write_cache(tmp_path / "cache", model)], tmp_path / "run")
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    first, last = (json.loads(line) for line in text.splitlines())
    assert first["train/live_kl_nats"] == pytest.approx(first["train/loss"], rel=1e-6)
    assert 0.1 < last["train/live_kl_nats"] < first["train/live_kl_nats"]
    assert "train/polarity/live_kl_nats" in first and "train/ce_nats" not in first
