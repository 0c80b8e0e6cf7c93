"""The shape of a decoder: what every model sets for itself, beside what its family fixes."""

import dataclasses
from collections.abc import Sequence

from sentidistill_jax.models.families import LLAMA, Family


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the context of pre-training.

    `linear` divides all of them by `factor`. `llama3` divides those of long wavelengths, leaves
    those of short ones, and interpolates between (arXiv:2407.21783).
    """

    kind: str  # linear or llama3
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder: pre-norm, rotary, grouped-query attention, gated feed-forward layer."""

    vocab_size: int
    embed_dim: int
    mlp_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    family: Family = LLAMA
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    local_rope_theta: float | None = None  # of sliding layers, which are not scaled then
    sliding_window: int | None = None  # positions that a sliding layer sees, its own included
    sliding_layers: tuple[bool, ...] = ()  # which layers slide; (): none
    query_scale: float | None = None  # attention scores are multiplied by it; None: head_dim**-0.5
    attention_softcap: float | None = None  # scores become softcap * tanh(scores / softcap)
    logit_softcap: float | None = None
    rms_norm_eps: float = 1e-5
    tie_embeddings: bool = True
    max_position: int = 2048  # longest sequence the model was trained for, in tokens

    def __post_init__(self):
        if self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must be a multiple of"
                f" num_kv_heads={self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary pairs its halves.")
        if self.sliding_layers and len(self.sliding_layers) != self.num_layers:
            raise ValueError(
                f"sliding_layers has {len(self.sliding_layers)} entries, expected one for each of"
                f" {self.num_layers} layers, or none."
            )
        if any(self.sliding_layers) and not self.sliding_window:
            raise ValueError(
                f"sliding_window={self.sliding_window} must be at least 1: sliding_layers asks for"
                " sliding attention."
            )

    @property
    def attention_scale(self) -> float:
        """Factor of the attention scores."""
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    def with_layers(self, layers: Sequence[int]) -> "ModelConfig":
        """The same model with only the given layers, in the given order.

        Raises:
          ValueError: If there are none, or one does not exist.
        """
        if not layers or min(layers) < 0 or max(layers) >= self.num_layers:
            raise ValueError(
                f"student.layers={tuple(layers)} must name layers from 0 to {self.num_layers - 1}"
                " of the model."
            )
        sliding = tuple(self.sliding_layers[layer] for layer in layers if self.sliding_layers)
        return dataclasses.replace(self, num_layers=len(layers), sliding_layers=sliding)


def every_nth_is_global(num_layers: int, n: int) -> tuple[bool, ...]:
    """Sliding layers with a global one after every `n - 1` of them, as in Gemma."""
    return tuple((layer + 1) % n != 0 for layer in range(num_layers))
