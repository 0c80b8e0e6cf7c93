"""One optimizer update as a pure function."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from sentidistill_jax import sharding
from sentidistill_jax.data.batch import Batch
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.training.objectives import Mean, Normalizers, Objective, StudentOutput

# What a platform's compiler does not do for a step unless told. On TPUs sums over devices would
# otherwise halt the arithmetic, and they are most of what a step sends (docs/pods.md).
COMPILER_OPTIONS: dict[str, dict[str, bool | str]] = {
    "tpu": {
        "xla_enable_async_all_reduce": True,
        "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": True,
        "xla_tpu_overlap_compute_collective_tc": True,
    },
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything an update changes, and the frozen parameters beside it."""

    step: jax.Array  # int32 scalar: updates done, which is also the position in the data
    params: Any  # nnx.State of what is trained: parameters of the decoder, or adapters of them
    frozen: Any  # nnx.State of what is not
    optimizer_state: Any
    average: Any = None  # exponential moving average of `params`; None: not kept
    teacher: Any = None  # arrays of an objective whose teacher lives beside the student


def init_state(
    params: nnx.State,
    frozen: nnx.State,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    average: bool = False,
    teacher: Any = None,
) -> TrainState:
    """The state before the first update; what belongs to a parameter lies where it lies.

    Args:
      params: What is trained.
      frozen: What is not.
      optimizer: Makes its own state.
      mesh: Where all of it is.
      average: Whether to keep one, in float32.
      teacher: `Objective.teacher`.
    """
    replicated = sharding.replicated(mesh)

    def placement(leaf: Any) -> Any:
        # Moments have the axes of their parameter; factored ones have fewer, and are small.
        if isinstance(leaf, nnx.Variable):
            axes = leaf.get_metadata()["axes"]
            if leaf.get_value().ndim == len(axes):
                return sharding.state_shardings(leaf, mesh)
        return jax.tree.map(lambda _: replicated, leaf)

    def initial(params: nnx.State) -> TrainState:
        copy = jax.tree.map(lambda x: x.astype(jnp.float32), params) if average else None
        return TrainState(jnp.zeros((), jnp.int32), None, None, optimizer.init(params), copy)

    placements = jax.tree.map(
        placement,
        jax.eval_shape(initial, params),
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )
    state = jax.jit(initial, out_shardings=placements)(params)
    return dataclasses.replace(state, params=params, frozen=frozen, teacher=teacher)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    assemble: Callable[[Any, Any], Decoder],
    optimizer: optax.GradientTransformation,
    objective: Objective,
    num_kinds: int,
    total_steps: int,
    ema_decay: float = 0.0,
    micro_batches: int = 1,
    mesh: Mesh | None = None,
) -> tuple[TrainState, dict[str, Any]]:
    """Gradients of a batch, summed over micro-batches, and the update they give.

    Sums are normalized by the counts of the whole batch, so the number of micro-batches changes
    rounding only.

    Args:
      state: Donate it.
      batch: Rows must be a multiple of `micro_batches`.
      assemble: The decoder from `state.params` and `state.frozen`.
      optimizer: Its state is in `state`.
      objective: What is minimized.
      num_kinds: Length of the per-kind metrics.
      total_steps: Of the run, for what the objective changes in its course.
      ema_decay: Of the average, if the state keeps one. It is lower in the first steps,
        (1 + step) / (10 + step), so that a short run's average forgets where it began.
      micro_batches: Rows are split into this many parts that pass one after the other.
      mesh: Given to the fused head; None on one device.

    Returns:
      The new state and metrics: `loss`, `gradient_norm`, the numbers of packed `positions` and of
      `completion_tokens`, and the `means` of the objective.
    """
    normalizers = Normalizers.of(batch)

    def loss_of(params: Any, rows: Batch) -> tuple[jax.Array, dict[str, Mean]]:
        model = assemble(params, state.frozen)
        hidden, _ = model(rows.tokens, rows.positions, segment_ids=rows.segment_ids)
        progress = state.step / total_steps
        scored = jnp.take_along_axis(hidden, rows.scored[:, :, None], axis=1)
        return objective.loss(
            StudentOutput(scored, model.head_weight, model.config.logit_softcap),
            objective.teacher_signal(state.teacher, rows, progress),
            rows,
            normalizers,
            progress=progress,
            num_kinds=num_kinds,
            mesh=mesh,
        )

    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    if micro_batches == 1:
        (loss, means), gradients = value_and_grad(state.params, batch)
    else:
        # Every micro-batch takes its share of every device's rows: no row moves.
        parts = jax.tree.map(
            lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch
        )
        first = jax.tree.map(lambda x: x[0], parts)
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(value_and_grad, state.params, first),
        )

        def add(total, part):
            return jax.tree.map(jnp.add, total, value_and_grad(state.params, part)), None

        ((loss, means), gradients), _ = lax.scan(add, zeros, parts)

    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
    new_state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        optimizer_state=optimizer_state,
        average=average,
    )
    return new_state, {
        "loss": loss,
        "gradient_norm": optax.tree.norm(gradients),
        "positions": jnp.sum(batch.segment_ids > 0),
        "completion_tokens": jnp.sum(batch.loss_mask),
        "means": means,
    }


def jit_step(
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    mesh: Mesh,
) -> jax.stages.Wrapped:
    """A step as the loop runs it, and as a plan compiles it.

    The state's memory is reused and the new state lies where the old one did; metrics are on every
    device.

    Args:
      step: `train_step` with its settings.
      state: Arrays, or shapes with placements.
      mesh: Where it is.
    """
    placements = jax.tree.map(lambda array: array.sharding, state)
    return jax.jit(
        step,
        donate_argnums=(0,),
        out_shardings=(placements, sharding.replicated(mesh)),
        compiler_options=COMPILER_OPTIONS.get(mesh.devices.flat[0].platform),
    )
