"""One optimizer update as a pure function."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from sentidistill_jax.data.batch import Batch
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.training.objectives import Normalizers, Objective, distillation_loss


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything an update changes, and the frozen parameters beside it."""

    step: jax.Array  # int32 scalar: updates done, which is also the position in the data
    params: Any  # nnx.State of what is trained
    frozen: Any  # nnx.State of what is not
    optimizer_state: Any


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    graphdef: nnx.GraphDef[Decoder],
    optimizer: optax.GradientTransformation,
    objective: Objective,
    num_kinds: int,
    micro_batches: int = 1,
    mesh: Mesh | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Gradients of a batch, summed over micro-batches, and the update they give.

    Sums are normalised by the counts of the whole batch, so the number of micro-batches changes
    rounding only.

    Args:
      state: Donate it.
      batch: Rows must be a multiple of `micro_batches`.
      graphdef: Of the decoder whose parameters `state` holds.
      optimizer: Its state is in `state`.
      objective: What is minimised.
      num_kinds: Length of the per-kind metrics.
      micro_batches: Rows are split into this many parts that pass one after the other.
      mesh: Given to the fused head; None on one device.

    Returns:
      The new state and metrics: `loss`, `gradient_norm` and the per-kind sums of the objective.
    """
    normalizers = Normalizers.of(batch)

    def loss_of(params: Any, rows: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        model = nnx.merge(graphdef, params, state.frozen)
        hidden, _ = model(rows.tokens, rows.positions, segment_ids=rows.segment_ids)
        return distillation_loss(
            hidden,
            model.head_weight,
            rows,
            normalizers,
            objective,
            num_kinds=num_kinds,
            logit_softcap=model.config.logit_softcap,
            mesh=mesh,
        )

    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    if micro_batches == 1:
        (loss, sums), gradients = value_and_grad(state.params, batch)
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

        ((loss, sums), gradients), _ = lax.scan(add, zeros, parts)

    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
    new_state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        optimizer_state=optimizer_state,
    )
    return new_state, {"loss": loss, "gradient_norm": optax.tree.norm(gradients), **sums}
