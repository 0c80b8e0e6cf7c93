"""A model's shape from the metadata of a GGUF file."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from sentidistill_jax.models.checks import refuse_others, required
from sentidistill_jax.models.config import GEMMA3, LLAMA, QWEN2, QWEN3, ModelConfig, RopeScaling
from sentidistill_jax.models.presets import every_nth_is_global
from sentidistill_jax.models.rope import frequencies

ARCHITECTURES = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gemma3": GEMMA3}
_SOURCE = "the GGUF file"
_SCALINGS = ("none", "linear")
# What llama.cpp knows of Gemma 3 without its files saying so.
_GEMMA3_GLOBAL_EVERY = 6
_GEMMA3_LOCAL_THETA = 10_000.0
_GEMMA3_27B_LAYERS = 62  # the one size whose queries are scaled by embed_dim / num_heads


def config_from_gguf(
    fields: Mapping[str, Any], *, tie_embeddings: bool, rope_factors: np.ndarray | None
) -> ModelConfig:
    """Reads the metadata of a GGUF file.

    Args:
      fields: Names and values of its metadata.
      tie_embeddings: Whether the file has no head of its own, which no field says.
      rope_factors: Divisors of the rotary frequencies, which Llama 3 files hold as a tensor.

    Raises:
      ValueError: If a field is missing, or the architecture or a setting is one that this decoder
        does not compute.
    """
    name = fields.get("general.architecture")
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{_SOURCE} has general.architecture={name!r}, expected one of"
            f" {sorted(ARCHITECTURES)}, which are all that this decoder computes; choose another"
            " model."
        )

    def of(key: str, *default: Any) -> Any:
        if default:
            return fields.get(f"{name}.{key}", default[0])
        return required(_SOURCE, fields, f"{name}.{key}")

    scaling_type = of("rope.scaling.type", "none")
    if scaling_type not in _SCALINGS:
        raise ValueError(
            f"{_SOURCE} has {name}.rope.scaling.type={scaling_type!r}, expected one of"
            f" {list(_SCALINGS)}, which are all that this decoder computes; choose another model."
        )
    heads, embed_dim, layers = of("attention.head_count"), of("embedding_length"), of("block_count")
    head_dim = of("attention.key_length", embed_dim // heads)
    refuse_others(
        _SOURCE,
        {
            f"{name}.attention.value_length": (of("attention.value_length", head_dim), head_dim),
            f"{name}.rope.dimension_count": (of("rope.dimension_count", head_dim), head_dim),
        },
    )
    scaling = None
    if scaling_type == "linear":
        scaling = RopeScaling("linear", of("rope.scaling.factor"))
    if rope_factors is not None:
        scaling = _llama3_scaling(rope_factors, head_dim, of("rope.freq_base", 10_000.0))
    config = functools.partial(
        ModelConfig,
        vocab_size=len(required(_SOURCE, fields, "tokenizer.ggml.tokens")),
        embed_dim=embed_dim,
        mlp_dim=of("feed_forward_length"),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=of("attention.head_count_kv", heads),
        head_dim=head_dim,
        family=ARCHITECTURES[name],
        rope_theta=of("rope.freq_base", 10_000.0),
        rope_scaling=scaling,
        rms_norm_eps=of("attention.layer_norm_rms_epsilon"),
        tie_embeddings=tie_embeddings,
        max_position=of("context_length"),
    )
    if name != "gemma3":
        return config()
    return config(
        local_rope_theta=_GEMMA3_LOCAL_THETA,
        sliding_window=of("attention.sliding_window"),
        sliding_layers=every_nth_is_global(layers, _GEMMA3_GLOBAL_EVERY),
        query_scale=(embed_dim / heads) ** -0.5 if layers == _GEMMA3_27B_LAYERS else None,
    )


def _llama3_scaling(factors: np.ndarray, head_dim: int, theta: float) -> RopeScaling:
    """The scaling whose divisors a file holds: its constants are those of all Llama 3 models."""
    scaling = RopeScaling("llama3", round(float(factors.max()), 3))
    expected = frequencies(head_dim, theta, None) / frequencies(head_dim, theta, scaling)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-4):
        raise ValueError(
            f"{_SOURCE} has rotary factors (tensor 'rope_freqs.weight') that are not those of"
            f" Llama 3 with factor {scaling.factor}, the only ones that this decoder computes;"
            " choose another model."
        )
    return scaling
