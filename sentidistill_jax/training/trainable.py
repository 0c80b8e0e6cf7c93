"""Which arrays of a student are trained, and how a decoder is put together from them."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.training import lora


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
      decoder: Float32; shares its arrays with the result where they keep their dtype.
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

    params = lora.init_adapters(state, adapters.targets, rank=adapters.rank, seed=seed, mesh=mesh)
    return Trainable(params, state, assembled(lora.adapt), assembled(lora.merge))


def trainable_filter(frozen: Sequence[str]) -> Callable[..., bool]:
    """An NNX filter: parameters whose dotted path matches none of the regular expressions."""
    patterns = [re.compile(pattern) for pattern in frozen]

    def trainable(path, value) -> bool:
        name = ".".join(str(part) for part in path)
        return isinstance(value, nnx.Param) and not any(p.search(name) for p in patterns)

    return trainable
