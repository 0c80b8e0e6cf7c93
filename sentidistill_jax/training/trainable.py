"""Which arrays of a student are trained, and how a decoder is put together from them.

Either parameters, or low-rank adapters of them: a weight that stays as it is, plus the product of
two thin matrices (LoRA, Hu et al. 2021, arXiv:2106.09685). Adapters are stacked like the weights
they belong to, so scanned layers, remat and sharding need nothing new, and no decoder knows of
them: `models/matmul.py` multiplies by weight and adapter one after the other, and the weight's
gradient is never computed.
"""

import dataclasses
import functools
import math
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.matmul import AdaptedWeight
from sentidistill_jax.sharding import state_shardings

Path = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Lora:
    """Settings of low-rank adapters; see configs/base.py."""

    rank: int
    scale: float
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Trainable:
    """A decoder taken apart."""

    params: nnx.State  # trained: parameters of the decoder, or adapters of them
    frozen: nnx.State  # every other parameter
    assemble: Callable[[Any, Any], Decoder]  # of params and frozen, for a training step
    merge: Callable[[Any, Any], Decoder]  # of the same, with plain weights, for all else


def take_apart(
    decoder: Decoder,
    mesh: jax.sharding.Mesh,
    *,
    frozen: Sequence[str] = (),
    param_dtype: DTypeLike = jnp.float32,
    adapters: Lora | None = None,
    seed: int = 0,
) -> Trainable:
    """Splits a decoder into what is trained and what is not.

    Args:
      decoder: Float32; cast in place, so that no array lies in memory twice.
      mesh: Where they lie.
      frozen: Regular expressions of parameters that stay as they are.
      param_dtype: Of the parameters; adapters are float32.
      adapters: Trained instead of parameters, all of which are frozen then.
      seed: Of the adapters.

    Raises:
      ValueError: If an adapter has no weight to belong to, or nothing is left to train.
    """
    graphdef, state = nnx.split(decoder)
    state = jax.tree.map(lambda array: array.astype(param_dtype), state)
    nnx.update(decoder, state)
    if adapters is None:
        params, rest = nnx.split_state(state, trainable_filter(frozen), ...)
        if not jax.tree.leaves(params):
            raise ValueError(
                f"optimizer.frozen={tuple(frozen)} matches every parameter; leave one to train."
            )
        assemble = functools.partial(nnx.merge, graphdef)
        return Trainable(params, rest, assemble, assemble)

    def assembled(join: Callable) -> Callable[[Any, Any], Decoder]:
        return lambda params, rest: nnx.merge(graphdef, join(rest, params, scale=adapters.scale))

    params = init_adapters(state, adapters.targets, rank=adapters.rank, seed=seed, mesh=mesh)
    return Trainable(params, state, assembled(add_adapters), assembled(merge_adapters))


def trainable_filter(frozen: Sequence[str]) -> Callable[..., bool]:
    """An NNX filter: parameters whose dotted path matches none of the regular expressions."""
    patterns = [re.compile(pattern) for pattern in frozen]

    def trainable(path, value) -> bool:
        name = ".".join(str(part) for part in path)
        return isinstance(value, nnx.Param) and not any(p.search(name) for p in patterns)

    return trainable


def init_adapters(
    params: nnx.State, targets: Sequence[str], *, rank: int, seed: int, mesh: jax.sharding.Mesh
) -> nnx.State:
    """Adapters that change nothing yet: random `down`, zero `up`.

    Args:
      params: Of a decoder, float32 or bfloat16.
      targets: Names of the stacked weights that get an adapter, such as "q_proj".
      rank: Inner size.
      seed: Of the random part.
      mesh: Where they go.

    Returns:
      Path of the weight -> `down` [layers, *inputs, rank] and `up` [layers, rank, *outputs],
      float32.

    Raises:
      ValueError: If the rank is below one, or a name is not that of a stacked weight.
    """
    stacked = {
        path: variable
        for path, variable in nnx.to_flat_state(params)
        if path[0] == "layers" and variable.get_metadata()["axes"].count("embed") == 1
    }
    known = sorted({str(path[-1]) for path in stacked})
    if rank < 1 or not targets or not set(targets) <= set(known):
        raise ValueError(
            f"lora got rank={rank}, targets={tuple(targets)}; expected a rank of at least 1 and"
            f" targets among {known}."
        )
    adapters = []
    for path, variable in stacked.items():
        if path[-1] not in targets:
            continue
        shape, axes = variable.get_value().shape, variable.get_metadata()["axes"]
        boundary = _outputs_start(axes)
        name = "/".join(map(str, path))
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
        down_shape, up_shape = (*shape[:boundary], rank), (shape[0], rank, *shape[boundary:])
        # Unit variance per input, as for a weight of its own.
        down = jax.random.normal(key, down_shape) / math.sqrt(math.prod(shape[1:boundary]))
        up = jnp.zeros(up_shape)
        adapters += [
            ((*path, "down"), nnx.Param(down, axes=(*axes[:boundary], "rank"))),
            ((*path, "up"), nnx.Param(up, axes=("layers", "rank", *axes[boundary:]))),
        ]
    state = nnx.from_flat_state(adapters)
    return jax.device_put(state, state_shardings(state, mesh))


def add_adapters(params: nnx.State, adapters: nnx.State, *, scale: float) -> nnx.State:
    """Parameters with the adapters beside their weights, for a forward pass."""

    def beside(weight: jax.Array, down: jax.Array, up: jax.Array) -> AdaptedWeight:
        return AdaptedWeight(weight, down, scale * up)

    return _with_adapters(params, adapters, beside)


def merge_adapters(params: nnx.State, adapters: nnx.State, *, scale: float) -> nnx.State:
    """Parameters with the adapters added to their weights, in float32."""

    def added(weight: jax.Array, down: jax.Array, up: jax.Array) -> jax.Array:
        product = jax.vmap(lambda down, up: jnp.tensordot(down, up, axes=1))(down, up)
        return weight.astype(jnp.float32) + scale * product

    return _with_adapters(params, adapters, added)


def _with_adapters(params, adapters, join):
    flat = dict(nnx.to_flat_state(adapters))

    def joined(path: Path, variable: nnx.Variable) -> nnx.Variable:
        if (*path, "down") not in flat:
            return variable
        down, up = (flat[(*path, name)].get_value() for name in ("down", "up"))
        return variable.replace(join(variable.get_value(), down, up))

    return nnx.from_flat_state([(path, joined(path, v)) for path, v in nnx.to_flat_state(params)])


def _outputs_start(axes: Sequence[str]) -> int:
    """Where the outputs of a stacked weight begin; its other side is the residual stream."""
    return 2 if axes[1] == "embed" else len(axes) - 1
