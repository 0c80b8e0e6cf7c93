"""The programs that a plan is about, with abstract arguments: shapes and placements, no weights."""

import dataclasses
import functools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sentidistill_jax import sharding
from sentidistill_jax.data.batch import Batch
from sentidistill_jax.data.loader import MAX_LABELS, BatchShape
from sentidistill_jax.inference import steps
from sentidistill_jax.inference.batching import ScoreBatch
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.training.objectives import Objective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule, trainable_filter
from sentidistill_jax.training.train_step import TrainState, train_step


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations of one step over all devices; matrix products only."""

    model: float  # what the mathematics needs: the numerator of MFU
    hardware: float  # with what the backward pass computes once more


class Workload(Protocol):
    """A program to be planned."""

    @property
    def tokens(self) -> int:
        """That one step goes over."""
        ...

    def flops(self) -> Flops:
        """Of one step."""
        ...

    def lower(self, mesh: Mesh) -> jax.stages.Lowered:
        """The program, traced for the mesh."""
        ...

    def resident(self, mesh: Mesh) -> dict[str, int]:
        """What lies on one device between steps: name -> bytes."""
        ...


def body_flops(model: ModelConfig, rows: int, seq_length: int) -> float:
    """Forward pass of the layers: two per weight and token, and attention over all pairs.

    Half of the pairs are masked, but the program computes them; so do the usual definitions of MFU
    count them (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).
    """
    width = model.num_heads * model.head_dim
    kv_width = model.num_kv_heads * model.head_dim
    weights = model.embed_dim * (2 * width + 2 * kv_width + 3 * model.mlp_dim)
    per_token = 2 * weights + 4 * seq_length * width
    return float(model.num_layers * rows * seq_length * per_token)


def head_flops(model: ModelConfig, positions: int) -> float:
    """Forward pass of the head."""
    return 2.0 * positions * model.vocab_size * model.embed_dim


@dataclasses.dataclass(frozen=True)
class TrainWorkload:
    """One update of a student."""

    model: ModelConfig
    shape: BatchShape
    top_k: int
    dtype: str
    remat: str
    optimizer: str
    micro_batches: int
    frozen: tuple[str, ...] = ()
    objective: Objective = Objective()
    num_kinds: int = 32

    @property
    def tokens(self) -> int:
        """Of a batch, padding included."""
        return self.shape.global_batch_size * self.shape.seq_length

    def flops(self) -> Flops:
        """The backward pass is twice the forward pass; a frozen weight has no gradient."""
        rows = self.shape.global_batch_size
        body = body_flops(self.model, rows, self.shape.seq_length)
        head = head_flops(self.model, rows * self.shape.scored_length)
        head_frozen = self.model.tie_embeddings and not trainable_filter(self.frozen)(
            ("embedding",), nnx.Param(0)
        )
        model = 3 * body + (2 if head_frozen else 3) * head
        again = {"none": 0.0, "dots": self._attention_scores(), "full": body}[self.remat]
        # The fused head makes the gradients of its weight whether or not it is trained.
        return Flops(model, 3 * body + 3 * head + again)

    def _attention_scores(self) -> float:
        """What `dots` computes once more: products with batch dims, those of attention."""
        rows, seq, model = self.shape.global_batch_size, self.shape.seq_length, self.model
        return 4.0 * model.num_layers * rows * seq * seq * model.num_heads * model.head_dim

    def lower(self, mesh: Mesh) -> jax.stages.Lowered:
        """As `training.train` compiles it."""
        graphdef, state, optimizer = self._state(mesh)
        step = jax.jit(
            functools.partial(
                train_step,
                graphdef=graphdef,
                optimizer=optimizer,
                objective=self.objective,
                num_kinds=self.num_kinds,
                micro_batches=self.micro_batches,
                mesh=mesh if mesh.size > 1 else None,
            ),
            donate_argnums=(0,),
        )
        with jax.set_mesh(mesh):
            return step.lower(state, self._batch(mesh))

    def resident(self, mesh: Mesh) -> dict[str, int]:
        """Parameters, optimizer state, batch."""
        _, state, _ = self._state(mesh)
        return {
            "parameters": local_bytes(state.params) + local_bytes(state.frozen),
            "optimizer state": local_bytes(state.optimizer_state),
            "batch": local_bytes(self._batch(mesh)),
        }

    def _state(self, mesh: Mesh) -> tuple[Any, TrainState, Any]:
        decoder = abstract_decoder(self.model, dtype=self.dtype, remat=self.remat)
        graphdef, params, frozen = nnx.split(decoder, trainable_filter(self.frozen), ...)
        schedule = make_schedule(
            "constant", peak=1e-4, warmup_steps=0, total_steps=1, final_fraction=1.0
        )
        optimizer = make_optimizer(self.optimizer, schedule, weight_decay=0.1, clip_norm=1.0)
        step: Any = _placed(jax.ShapeDtypeStruct((), jnp.int32), mesh, ())
        state = TrainState(
            step=step,
            params=abstract_state(params, mesh),
            frozen=abstract_state(frozen, mesh),
            optimizer_state=abstract_state(jax.eval_shape(optimizer.init, params), mesh),
        )
        return graphdef, state, optimizer

    def _batch(self, mesh: Mesh) -> Batch:
        rows, seq, scored = dataclasses.astuple(self.shape)

        def of(dtype: Any, *dims: int) -> Any:
            return _placed(jax.ShapeDtypeStruct((rows, *dims), dtype), mesh, ("batch",))

        return Batch(
            tokens=of(jnp.int32, seq),
            positions=of(jnp.int32, seq),
            segment_ids=of(jnp.int32, seq),
            scored=of(jnp.int32, scored),
            targets=of(jnp.int32, scored),
            loss_mask=of(jnp.float32, scored),
            kind_ids=of(jnp.int32, scored),
            top_k_ids=of(jnp.int32, scored, self.top_k),
            top_k_logprobs=of(jnp.float32, scored, self.top_k),
            tail_logprobs=of(jnp.float32, scored),
            label_ids=of(jnp.int32, scored, MAX_LABELS),
            label_logprobs=of(jnp.float32, scored, MAX_LABELS),
        )


@dataclasses.dataclass(frozen=True)
class TeachWorkload:
    """One forward pass of a teacher over packed answers, and what the cache keeps of it."""

    model: ModelConfig
    shape: BatchShape
    top_k: int
    dtype: str
    temperatures: tuple[float, ...] = (1.0,)

    @property
    def tokens(self) -> int:
        """Of a batch, padding included."""
        return self.shape.global_batch_size * self.shape.seq_length

    def flops(self) -> Flops:
        """No backward pass."""
        rows = self.shape.global_batch_size
        body = body_flops(self.model, rows, self.shape.seq_length)
        flops = body + head_flops(self.model, rows * self.shape.scored_length)
        return Flops(flops, flops)

    def lower(self, mesh: Mesh) -> jax.stages.Lowered:
        """As `inference.engine` runs it for scored requests."""
        decoder = abstract_decoder(self.model, dtype=self.dtype, remat="none")
        graphdef, params = nnx.split(decoder)
        with jax.set_mesh(mesh):
            return steps.score.lower(
                abstract_state(params, mesh),
                self._batch(mesh),
                None,
                graphdef=graphdef,
                k=self.top_k,
                temperatures=self.temperatures,
            )

    def resident(self, mesh: Mesh) -> dict[str, int]:
        """Parameters and batch."""
        params = nnx.state(abstract_decoder(self.model, dtype=self.dtype, remat="none"))
        return {
            "parameters": local_bytes(abstract_state(params, mesh)),
            "batch": local_bytes(self._batch(mesh)),
        }

    def _batch(self, mesh: Mesh) -> ScoreBatch:
        rows, seq, scored = dataclasses.astuple(self.shape)

        def of(*dims: int) -> Any:
            return _placed(jax.ShapeDtypeStruct((rows, *dims), jnp.int32), mesh, ("batch",))

        return ScoreBatch(of(seq), of(seq), of(seq), of(scored), of(scored, MAX_LABELS + 1))


def abstract_decoder(model: ModelConfig, *, dtype: str, remat: str) -> Decoder:
    """A decoder whose parameters are shapes."""
    return nnx.eval_shape(lambda: Decoder(model, nnx.Rngs(0), dtype=jnp.dtype(dtype), remat=remat))


def abstract_state(state: Any, mesh: Mesh) -> Any:
    """The same shapes, each with the placement that its logical axes give it on the mesh."""

    def of(leaf: Any) -> Any:
        if not isinstance(leaf, nnx.Variable):
            return _placed(leaf, mesh, ())
        value, axes = leaf.get_value(), leaf.get_metadata().get("axes", ())
        # Factored moments have fewer dims than their parameter; they are small and replicated.
        return leaf.replace(_placed(value, mesh, axes if len(axes) == value.ndim else ()))

    return jax.tree.map(of, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def _placed(leaf: Any, mesh: Mesh, axes: tuple[str | None, ...]) -> jax.ShapeDtypeStruct:
    spec = sharding.divisible_spec(axes, leaf.shape, mesh) if axes else PartitionSpec()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))


def local_bytes(tree: Any) -> int:
    """Of one device's shards."""
    return sum(
        leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
        for leaf in jax.tree.leaves(tree)
    )
