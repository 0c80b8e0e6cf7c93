"""Choosing the next token."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0  # the smallest set of tokens with this mass
    min_p: float = 0.0  # tokens with this fraction of the likeliest's probability, or more
    max_new_tokens: int = 64

    def __post_init__(self):
        if (
            self.temperature < 0
            or not 0 < self.top_p <= 1
            or not 0 <= self.min_p <= 1
            or self.max_new_tokens < 1
        ):
            raise ValueError(
                f"sampling got {self}; expected temperature >= 0, 0 < top_p <= 1, 0 <= min_p <= 1"
                " and max_new_tokens >= 1."
            )


def sample(
    logits: Float[Array, "rows vocab"],
    keys: Array,
    config: SamplingConfig,
) -> Int[Array, " rows"]:
    """One token per row; every row has its own key, so its draw does not depend on its batch."""
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / config.temperature
    if config.top_p < 1:
        descending = jnp.sort(jax.nn.softmax(logits, axis=-1), axis=-1)[:, ::-1]
        before = jnp.cumsum(descending, axis=-1) - descending
        # The least probability inside the smallest set that covers top_p.
        least = jnp.min(jnp.where(before < config.top_p, descending, jnp.inf), axis=-1)
        logits = jnp.where(jax.nn.softmax(logits, axis=-1) >= least[:, None], logits, -jnp.inf)
    if config.min_p > 0:
        likeliest = jnp.max(logits, axis=-1, keepdims=True)
        logits = jnp.where(logits >= likeliest + jnp.log(config.min_p), logits, -jnp.inf)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
