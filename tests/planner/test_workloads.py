"""Analytic figures against what XLA counts and what real arrays take."""

import dataclasses

import jax
import pytest
from flax import nnx

from sentidistill_jax.data.loader import BatchShape
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.planner.workloads import TeachWorkload, TrainWorkload
from sentidistill_jax.sharding import make_mesh, state_shardings
from sentidistill_jax.training.trainable import Lora

# One layer, so that XLA's count, which takes a loop's body once, counts all of it.
MODEL = dataclasses.replace(PRESETS["tiny"], num_layers=1, embed_dim=64, mlp_dim=256)
TRAIN = TrainWorkload(
    MODEL, BatchShape(8, 32, 8), top_k=4, dtype="float32", remat="none", optimizer="adamw",
    micro_batches=1,
)  # fmt: skip


def mesh_of(devices: int, **shape: int):
    return make_mesh(shape, jax.devices()[:devices])


@pytest.mark.parametrize(
    "workload",
    [
        TRAIN,
        dataclasses.replace(TRAIN, remat="full"),
        dataclasses.replace(TRAIN, frozen=("embedding",), ema_decay=0.99),
        dataclasses.replace(TRAIN, adapters=Lora(2, 1.0, ("q_proj", "up_proj"))),
        TeachWorkload(MODEL, BatchShape(8, 32, 8), top_k=4, dtype="float32"),
    ],
    ids=["train", "full-remat", "frozen-head", "adapters", "teach"],
)
def test_flops_are_those_of_the_compiled_program(workload):
    compiled = workload.lower(mesh_of(1)).compile()
    counted = compiled.cost_analysis()["flops"]
    # XLA counts element-wise work as well; matrix products are most of it even at this size.
    # With adapters it leaves out the gradients of the first layer's inputs, here the only layer's.
    assert 0.75 < workload.flops().hardware / counted < 1.05


def test_recomputation_costs_a_forward_pass_of_the_layers():
    flops = {remat: dataclasses.replace(TRAIN, remat=remat).flops() for remat in ("none", "full")}
    assert flops["none"].model == flops["full"].model < flops["none"].hardware
    assert flops["full"].hardware > 1.2 * flops["none"].hardware


def test_resident_bytes_are_those_of_real_arrays():
    mesh = mesh_of(8, fsdp=4, tensor=2)
    resident = TRAIN.resident(mesh)
    state = nnx.state(Decoder(MODEL, nnx.Rngs(0)))
    placed = jax.device_put(state, state_shardings(state, mesh))
    on_first = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(placed))
    assert resident["parameters"] == on_first
    # Two moments for each parameter, split as it is, and the counts of steps.
    assert 2 * on_first <= resident["optimizer state"] <= 2 * on_first + 64


def test_what_is_trained_decides_what_is_kept_for_it():
    mesh = mesh_of(8, fsdp=4, tensor=2)
    full = TRAIN.resident(mesh)
    adapted = dataclasses.replace(
        TRAIN, adapters=Lora(2, 1.0, ("q_proj",)), param_dtype="bfloat16", ema_decay=0.9
    ).resident(mesh)
    assert adapted["parameters"] < 0.6 * full["parameters"]
    assert adapted["average"] < adapted["optimizer state"] < 0.1 * full["optimizer state"]


def test_factored_moments_are_smaller():
    mesh = mesh_of(8, fsdp=8)
    factored = dataclasses.replace(TRAIN, optimizer="adafactor").resident(mesh)
    assert factored["optimizer state"] < TRAIN.resident(mesh)["optimizer state"]
