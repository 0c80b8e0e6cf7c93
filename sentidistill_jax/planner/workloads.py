"""The programs that a plan is about, with abstract arguments: shapes and placements, no weights."""

import dataclasses
import functools
import math
from collections.abc import Callable
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
from sentidistill_jax.inference.distribution import Keep
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.training.objectives import CachedObjective, Objective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule
from sentidistill_jax.training.throughput import step_flops
from sentidistill_jax.training.train_step import TrainState, init_state, jit_step, train_step
from sentidistill_jax.training.trainable import Lora, Trainable, take_apart

_STEPS = 1000  # of the run, which no size depends on


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations of one step over all devices; matrix products only."""

    model: float  # what the mathematics needs: the numerator of MFU
    hardware: float  # with what is masked, or computed once more in the backward pass


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
    """Forward pass of the layers as it is computed: masked pairs of positions included."""
    width, kv_width = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    weights = model.embed_dim * (2 * width + 2 * kv_width + 3 * model.mlp_dim)
    products = model.num_layers * rows * seq_length * 2.0 * weights
    return products + attention_flops(model, rows, seq_length**2)


def attention_flops(model: ModelConfig, rows: int, pairs: float) -> float:
    """Scores and weighted sums of so many pairs of positions per row, in all layers."""
    return 4.0 * model.num_layers * rows * pairs * model.num_heads * model.head_dim


def masked_pairs(seq_length: int) -> float:
    """Pairs of positions that are computed although the causal mask hides them."""
    return seq_length * (seq_length - 1) / 2


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
    param_dtype: str = "float32"
    momentum_dtype: str = "float32"
    ema_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    adapters: Lora | None = None
    objective: Objective = CachedObjective()
    num_kinds: int = 32

    @property
    def tokens(self) -> int:
        """Of a batch, padding included."""
        return self.shape.global_batch_size * self.shape.seq_length

    def flops(self) -> Flops:
        """See `training.throughput.step_flops`; hardware also does what is masked or repeated."""
        rows, seq, scored = dataclasses.astuple(self.shape)
        params, _, _ = self._parts()
        model = step_flops(self.model, params, rows=rows, seq_length=seq, scored_length=scored)
        masked = 3 * attention_flops(self.model, rows, masked_pairs(seq))
        again = {
            "none": 0.0,
            "dots": attention_flops(self.model, rows, seq**2),
            # No gradient needs the last product of a layer, so it alone is not repeated.
            "full": body_flops(self.model, rows, seq)
            - 2.0 * self.model.num_layers * rows * seq * self.model.embed_dim * self.model.mlp_dim,
        }[self.remat]
        return Flops(model, model + masked + again)

    def lower(self, mesh: Mesh) -> jax.stages.Lowered:
        """As `training.train` compiles it."""
        state, assemble, optimizer = self._state(mesh)
        step = functools.partial(
            train_step,
            assemble=assemble,
            optimizer=optimizer,
            objective=self.objective,
            num_kinds=self.num_kinds,
            total_steps=_STEPS,
            ema_decay=self.ema_decay,
            micro_batches=self.micro_batches,
            mesh=mesh if mesh.size > 1 else None,
        )
        with jax.set_mesh(mesh):
            return jit_step(step, state, mesh).lower(state, self._batch(mesh))

    def resident(self, mesh: Mesh) -> dict[str, int]:
        """Parameters, optimizer state, average where one is kept, batch."""
        state, _, _ = self._state(mesh)
        average = {"average": local_bytes(state.average)} if self.ema_decay else {}
        return {
            "parameters": local_bytes(state.params) + local_bytes(state.frozen),
            "optimizer state": local_bytes(state.optimizer_state),
            **average,
            "batch": local_bytes(self._batch(mesh)),
        }

    def _parts(self) -> tuple[nnx.State, nnx.State, Callable[[Any, Any], Decoder]]:
        """What is trained and what is not, as shapes, and how a decoder is made of them."""
        # Adapters are placed as they are made; what is abstract lies nowhere, so any mesh will do.
        mesh = sharding.make_mesh({}, jax.devices()[:1])
        made: list[Trainable] = []

        def parts() -> tuple[nnx.State, nnx.State]:
            decoder = Decoder(
                self.model, nnx.Rngs(0), dtype=jnp.dtype(self.dtype), remat=self.remat
            )
            made.append(
                take_apart(
                    decoder,
                    mesh,
                    frozen=self.frozen,
                    param_dtype=jnp.dtype(self.param_dtype),
                    adapters=self.adapters,
                )
            )
            return made[0].params, made[0].frozen

        params, frozen = jax.eval_shape(parts)
        return params, frozen, made[0].assemble

    def _state(self, mesh: Mesh) -> tuple[TrainState, Callable[[Any, Any], Decoder], Any]:
        params, frozen, assemble = self._parts()
        schedule = make_schedule(
            "constant", peak=1e-4, warmup_steps=0, total_steps=_STEPS, final_fraction=1.0,
            decay_steps=0,
        )  # fmt: skip
        optimizer = make_optimizer(
            self.optimizer, schedule, weight_decay=0.1, clip_norm=1.0,
            momentum_dtype=jnp.dtype(self.momentum_dtype),
        )  # fmt: skip

        def initial(params: nnx.State, frozen: nnx.State) -> TrainState:
            return init_state(params, frozen, optimizer, mesh, average=self.ema_decay > 0)

        state = jax.eval_shape(initial, params, frozen)
        return abstract_state(state, mesh), assemble, optimizer

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
            loss_weights=of(jnp.float32, scored),
            kind_ids=of(jnp.int32, scored),
            top_k_ids=of(jnp.int32, scored, self.top_k),
            top_k_logprobs=of(jnp.float32, scored, self.top_k),
            tail_logprobs=of(jnp.float32, scored, len(self.objective.temperatures)),
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
        rows, seq, scored = dataclasses.astuple(self.shape)
        hardware = body_flops(self.model, rows, seq) + head_flops(self.model, rows * scored)
        masked = attention_flops(self.model, rows, masked_pairs(seq))
        return Flops(hardware - masked, hardware)

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
                keep=Keep(self.top_k, self.temperatures),
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

        return ScoreBatch(
            tokens=of(seq), positions=of(seq), segment_ids=of(seq), predict_from=of(scored),
            chosen=of(scored, MAX_LABELS + 1), seeds=of(scored), offsets=of(scored),
        )  # fmt: skip


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
