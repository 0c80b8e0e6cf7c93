"""Device memory of a training step as the compiler plans it: all weights against adapters.

Nothing is allocated and nothing runs. By default the plan is that of XLA's CPU backend, which keeps
bfloat16 intermediates in float32 and so needs more than an accelerator; `--topology` plans for one
chip of a TPU instead, e.g. v5e:2x2 (16 GiB a chip), and needs libtpu but no TPU.

A plan that does not fit is an error of the TPU compiler, which says what its temporaries need.

The default student has the shape of a 1.24 billion parameter Llama 3.2.
"""

import argparse
import functools
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import topologies

from sentidistill_jax import sharding
from sentidistill_jax.data.batch import Batch
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.hf import abstract_decoder
from sentidistill_jax.training.objectives import CachedObjective
from sentidistill_jax.training.optimizer import make_optimizer
from sentidistill_jax.training.train_step import init_state, train_step
from sentidistill_jax.training.trainable import Lora, Trainable, take_apart

STUDENT = ModelConfig(
    vocab_size=128_256, embed_dim=2048, mlp_dim=8192, num_layers=16, num_heads=32, num_kv_heads=8,
    head_dim=64, rope_theta=500_000.0, max_position=131_072,
)  # fmt: skip
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GIB = 2**30


def abstract_batch(rows: int, seq: int, scored: int, k: int) -> Batch:
    """Shapes of a batch without labels."""
    ints, floats = (functools.partial(jax.ShapeDtypeStruct, dtype=d) for d in ("int32", "float32"))
    fields: Any = {
        **{name: ints((rows, seq)) for name in ("tokens", "positions", "segment_ids")},
        **{name: ints((rows, scored)) for name in ("scored", "targets", "kind_ids")},
        **{name: floats((rows, scored)) for name in ("loss_mask", "loss_weights")},
        "top_k_ids": ints((rows, scored, k)),
        "top_k_logprobs": floats((rows, scored, k)),
        "tail_logprobs": floats((rows, scored, 1)),
        "label_ids": ints((rows, scored, 8)),
        "label_logprobs": floats((rows, scored, 8)),
    }
    return Batch(**fields)


def plan(mesh: jax.sharding.Mesh, batch: Batch, *, remat: str, **how: Any) -> Any:
    """Memory analysis of one step."""
    optimizer = make_optimizer("adamw", lambda _: 1e-4, weight_decay=0.01, clip_norm=1.0)
    kept: list[Trainable] = []

    def initial():
        graphdef, shapes = nnx.split(abstract_decoder(STUDENT, dtype=jnp.bfloat16, remat=remat))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        kept[:] = [take_apart(nnx.merge(graphdef, zeros), mesh, **how)]
        return init_state(kept[0].params, kept[0].frozen, optimizer, mesh)

    placed = functools.partial(
        jax.tree.map,
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.replicated(mesh)),
    )
    state = placed(jax.eval_shape(initial))
    step = functools.partial(
        train_step,
        assemble=kept[0].assemble,
        optimizer=optimizer,
        objective=CachedObjective(),
        num_kinds=4,
        total_steps=100,
    )
    with jax.set_mesh(mesh):
        compiled = jax.jit(step, donate_argnums=0).lower(state, placed(batch)).compile()
    return compiled.memory_analysis()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="", help="of a TPU; planned by libtpu")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--scored", type=int, default=256)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--remat", default="full")
    options = parser.parse_args()
    devices: Any = jax.devices()
    if options.topology:
        devices = topologies.get_topology_desc(
            platform="tpu", topology_name=options.topology
        ).devices
    mesh = sharding.make_mesh({}, devices[:1])
    batch = abstract_batch(options.rows, options.seq, options.scored, options.k)
    print(
        f"{time.strftime('%Y-%m-%d')}, jax {jax.__version__}, {devices[0].device_kind};"
        f" {num_parameters(STUDENT) / 1e9:.2f} billion parameters, bfloat16 products,"
        f" {options.rows} x {options.seq} tokens, {options.scored} scored, remat {options.remat}\n"
    )
    print("| trained | state GiB | temporary GiB | together |\n|---|---|---|---|")
    ways = {
        "all weights, float32": {},
        f"adapters of rank {options.rank}, other weights bfloat16": {
            "param_dtype": jnp.bfloat16,
            "adapters": Lora(options.rank, 1.0, TARGETS),
        },
    }
    for name, how in ways.items():
        try:
            memory = plan(mesh, batch, remat=options.remat, **how)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            needed = re.search(r"[\d.]+G", str(error))
            print(f"| {name} | | {needed[0] if needed else '?'} | does not fit |", flush=True)
            continue
        state, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        unaliased = memory.output_size_in_bytes - memory.alias_size_in_bytes
        total = state + temporary + unaliased
        print(
            f"| {name} | {state / GIB:.2f} | {temporary / GIB:.2f} | {total / GIB:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
