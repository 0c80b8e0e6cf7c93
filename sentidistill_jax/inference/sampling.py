"""Choosing the next token."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn; temperature 0 is greedy.

    Raises:
      ValueError: If a field is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0  # the likeliest so many tokens; 0: all
    top_p: float = 1.0  # the smallest set of tokens with this mass
    min_p: float = 0.0  # tokens with this fraction of the likeliest's probability, or more
    max_new_tokens: int = 64
    repetition_penalty: float = 1.0  # above 1: tokens of the text so far become less likely

    def __post_init__(self):
        if (
            not 0 <= self.temperature < float("inf")
            or self.top_k < 0
            or not 0 < self.top_p <= 1
            or not 0 <= self.min_p <= 1
            or self.max_new_tokens < 1
            or not 0 < self.repetition_penalty < float("inf")
        ):
            raise ValueError(
                f"sampling got {self}; expected temperature >= 0, top_k >= 0, 0 < top_p <= 1,"
                " 0 <= min_p <= 1, max_new_tokens >= 1 and repetition_penalty > 0."
            )

    @property
    def compiled(self) -> "SamplingConfig":
        """The settings that a program is compiled for; the others are its arguments."""
        return dataclasses.replace(self, max_new_tokens=1, repetition_penalty=1.0)


def sample(
    logits: Float[Array, "rows vocab"],
    keys: Array,
    config: SamplingConfig,
) -> Int[Array, " rows"]:
    """One token per row; every row has its own key, so its draw does not depend on its batch."""
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / config.temperature
    if config.top_k:
        least = lax.top_k(logits, min(config.top_k, logits.shape[-1]))[0][:, -1:]
        logits = jnp.where(logits >= least, logits, -jnp.inf)
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


def penalize(
    logits: Float[Array, "rows vocab"],
    seen: Bool[Array, "rows vocab"] | None,
    penalty: Float[Array, ""] | float,
) -> Float[Array, "rows vocab"]:
    """Makes tokens of the text so far less likely (arXiv:1909.05858, section 4.1).

    Args:
      logits: Raw.
      seen: Tokens of each row's text; None leaves the logits as they are.
      penalty: Positive logits are divided by it, negative ones multiplied.
    """
    if seen is None:
        return logits
    return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)
