"""What a plan is about: workloads with abstract arguments, shapes and placements but no weights."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike

from sentidistill_jax.data.batch import Batch
from sentidistill_jax.data.loader import MAX_LABELS, BatchShape
from sentidistill_jax.inference import steps
from sentidistill_jax.inference.distribution import Keep
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.flops import (
    attention_flops,
    forward_flops,
    layers_flops,
    train_step_flops,
    visible_pairs,
)
from sentidistill_jax.models.hf import abstract_decoder
from sentidistill_jax.models.kv_cache import CACHE_AXES, KVCache
from sentidistill_jax.sharding import divisible_spec, make_mesh, state_shardings
from sentidistill_jax.training.objectives import CachedObjective, Objective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule
from sentidistill_jax.training.train_step import TrainState, init_state, jit_step, train_step
from sentidistill_jax.training.trainable import Lora, Trainable, take_apart

_STEPS = 1000  # of the run, which no size depends on


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations of one step over all devices, as `models.flops` counts them.

    `hardware` takes the masked half of attention as computed, as XLA's attention does. The kernels
    of accelerators skip it, so there it is an upper bound.
    """

    model: float  # what the mathematics needs: the numerator of MFU
    hardware: float  # with what is masked, or computed once more in the backward pass


@dataclasses.dataclass(frozen=True)
class Workload(abc.ABC):
    """A step to be planned."""

    rows_field: ClassVar[str]  # what decides the number of rows, in words of the config

    model: ModelConfig
    shape: BatchShape
    top_k: int
    dtype: str

    @property
    def rows(self) -> int:
        """Rows of the batch of one step."""
        return self.shape.global_batch_size

    @property
    def tokens(self) -> int:
        """Tokens that one step goes over, padding included."""
        return self.rows * self.shape.seq_length

    def row_multiple(self, degree: int) -> int:
        """What the number of rows must be a multiple of, given the data-parallel degree."""
        return degree

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the batch as `models.flops` takes them."""
        rows, seq_length, scored_length = dataclasses.astuple(self.shape)
        return {"rows": rows, "seq_length": seq_length, "scored_length": scored_length}

    @property
    def masked_pairs(self) -> float:
        """Pairs of positions in the batch that the causal mask hides."""
        seq_length = self.shape.seq_length
        return self.rows * (seq_length**2 - visible_pairs(seq_length))

    def _batch_array(self, mesh: Mesh, dtype: DTypeLike, *dims: int) -> Any:
        """The shape [rows, *dims] of a field of the batch, split by rows."""
        shape = (self.rows, *dims)
        placement = NamedSharding(mesh, divisible_spec(("batch",), shape, mesh))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=placement)

    @abc.abstractmethod
    def flops(self) -> Flops:
        """Operations of one step."""

    @abc.abstractmethod
    def lower(self, mesh: Mesh) -> jax.stages.Lowered:
        """The step, traced for the mesh."""

    @abc.abstractmethod
    def resident(self, mesh: Mesh) -> dict[str, int]:
        """Bytes on one device between steps, by what they hold."""


@dataclasses.dataclass(frozen=True)
class TrainWorkload(Workload):
    """One update of a student."""

    rows_field = "data.global_batch_size"

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

    def row_multiple(self, degree: int) -> int:
        """Also of the micro-batches that a step goes over one after the other."""
        return degree * self.micro_batches

    def flops(self) -> Flops:
        """Operations of an update; the backward pass repeats what remat does not keep."""
        params, _, _ = self._parts()
        model = train_step_flops(self.model, params, **self.sizes)
        masked = 3 * attention_flops(self.model, self.masked_pairs)
        attention = attention_flops(self.model, self.rows * self.shape.seq_length**2)
        # No gradient needs the last product of a layer, so it alone is not repeated.
        last = 2.0 * self.model.num_layers * self.tokens * self.model.embed_dim * self.model.mlp_dim
        repeated = {
            "none": 0.0,
            "dots": attention,
            "full": layers_flops(self.model, self.tokens) + attention - last,
        }
        return Flops(model, model + masked + repeated[self.remat])

    def lower(self, mesh: Mesh) -> jax.stages.Lowered:
        """The update as `training.train` compiles it."""
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
        """Bytes of parameters, optimizer state, average where one is kept, and batch."""
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
        mesh = make_mesh({}, jax.devices()[:1])
        made: list[Trainable] = []

        def parts() -> tuple[nnx.State, nnx.State]:
            decoder = Decoder(
                self.model, nnx.Rngs(0), dtype=jnp.dtype(self.dtype), remat=self.remat
            )
            param_dtype = jnp.dtype(self.param_dtype)
            made.append(
                take_apart(
                    decoder, mesh, frozen=self.frozen, param_dtype=param_dtype,
                    adapters=self.adapters,
                )
            )  # fmt: skip
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
        _, seq, scored = dataclasses.astuple(self.shape)
        array = functools.partial(self._batch_array, mesh)
        return Batch(
            tokens=array(jnp.int32, seq),
            positions=array(jnp.int32, seq),
            segment_ids=array(jnp.int32, seq),
            scored=array(jnp.int32, scored),
            targets=array(jnp.int32, scored),
            loss_mask=array(jnp.float32, scored),
            loss_weights=array(jnp.float32, scored),
            kind_ids=array(jnp.int32, scored),
            top_k_ids=array(jnp.int32, scored, self.top_k),
            top_k_logprobs=array(jnp.float32, scored, self.top_k),
            tail_logprobs=array(jnp.float32, scored, len(self.objective.temperatures)),
            label_ids=array(jnp.int32, scored, MAX_LABELS),
            label_logprobs=array(jnp.float32, scored, MAX_LABELS),
        )


@dataclasses.dataclass(frozen=True)
class TeachWorkload(Workload):
    """One forward pass of a teacher over packed answers, and what the cache keeps of it."""

    rows_field = "teacher.tokens_per_batch / data.seq_length"

    temperatures: tuple[float, ...] = (1.0,)

    def flops(self) -> Flops:
        """Operations of the forward pass."""
        model = forward_flops(self.model, **self.sizes)
        return Flops(model, model + attention_flops(self.model, self.masked_pairs))

    def lower(self, mesh: Mesh) -> jax.stages.Lowered:
        """The forward pass as `inference.engine` runs it for scored requests."""
        graphdef, params = nnx.split(abstract_decoder(self.model, dtype=self.dtype))
        with jax.set_mesh(mesh):
            return jax.jit(functools.partial(self._step, graphdef)).lower(
                abstract_state(params, mesh), self._batch(mesh), self._cache(mesh)
            )

    def _step(self, graphdef: steps.Graph, params: Any, batch: "_Scored", cache: KVCache) -> Any:
        """All texts in one chunk, and the distributions at their ends."""
        picked = jnp.zeros((len(batch.rows), self.model.embed_dim), self.dtype)
        read, picked = steps.read(
            params, batch.tokens, batch.positions, True, cache, None,
            (batch.rows, batch.columns), picked, graphdef=graphdef,
        )  # fmt: skip
        return read, steps.distributions(
            params, picked, 0, batch.chosen, batch.seeds, batch.seeds, None, 1.0,
            graphdef=graphdef, keep=Keep(self.top_k, self.temperatures),
        )  # fmt: skip

    def resident(self, mesh: Mesh) -> dict[str, int]:
        """Bytes of parameters, keys and values, and batch."""
        params = nnx.state(abstract_decoder(self.model, dtype=self.dtype))
        return {
            "parameters": local_bytes(abstract_state(params, mesh)),
            "keys and values": local_bytes(self._cache(mesh)),
            "batch": local_bytes(self._batch(mesh)),
        }

    def _batch(self, mesh: Mesh) -> "_Scored":
        _, seq, scored = dataclasses.astuple(self.shape)
        tokens = self._batch_array(mesh, jnp.int32, seq)
        # Where predictions are made is told by lists over all rows, which every device has.
        places = _placed(mesh, (self.rows * scored,), jnp.int32, (None,))
        chosen = _placed(mesh, (*places.shape, MAX_LABELS + 1), jnp.int32, (None, None))
        return _Scored(tokens, tokens, places, places, chosen, places)

    def _cache(self, mesh: Mesh) -> KVCache:
        """Room for the texts, laid out as `inference.engine` does it."""
        rows, length = self.rows, self.shape.seq_length
        make = functools.partial(KVCache.zeros, self.model, rows, length, jnp.dtype(self.dtype))
        shapes = jax.eval_shape(make)
        stack = _placed(mesh, shapes.key.shape, shapes.key.dtype, CACHE_AXES)
        count = _placed(mesh, (), jnp.int32, ())
        positions = _placed(mesh, (rows, length), jnp.int32, ("batch", "seq"))
        return KVCache(stack, stack, positions, count, count)  # type: ignore[arg-type]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Scored:
    """Texts [rows, seq], and where their distributions are wanted."""

    tokens: Any
    positions: Any
    rows: Any
    columns: Any
    chosen: Any
    seeds: Any


def _placed(
    mesh: Mesh, shape: tuple[int, ...], dtype: DTypeLike, axes: tuple[str | None, ...]
) -> jax.ShapeDtypeStruct:
    placement = NamedSharding(mesh, divisible_spec(axes, shape, mesh))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=placement)


def abstract_state(state: Any, mesh: Mesh) -> Any:
    """The same shapes, each with the placement that its logical axes give it on the mesh."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_shardings(state, mesh),
    )


def local_bytes(tree: Any) -> int:
    """Bytes of one device's shards of a tree."""
    return sum(
        leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
        for leaf in jax.tree.leaves(tree)
    )
