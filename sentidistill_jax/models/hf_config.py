"""A model's shape as the `config.json` that transformers, vLLM and llama.cpp read, and back."""

from collections.abc import Mapping
from typing import Any

import transformers

from sentidistill_jax.models.checks import refuse_others, required
from sentidistill_jax.models.config import FAMILIES, ModelConfig, RopeScaling

_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"
)  # fmt: skip
_ACTIVATIONS = {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}
_SOURCE = "config.json"


def config_from_hf(fields: Mapping[str, Any]) -> ModelConfig:
    """Reads a Hugging Face `config.json`; what it leaves out is as transformers has it.

    Raises:
      ValueError: If a field is missing, or the architecture or a setting is one that this decoder
        does not compute.
    """
    model_type = fields.get("model_type", "")
    if model_type not in FAMILIES:
        raise ValueError(
            f"{_SOURCE} has model_type={model_type!r}, expected one of {sorted(FAMILIES)}, which"
            " are all that this decoder computes; choose another model."
        )
    family = FAMILIES[model_type]
    for size in _SIZES:
        required(_SOURCE, fields, size)
    try:
        full = transformers.AutoConfig.for_model(**fields).to_dict()
    except Exception as error:  # noqa: BLE001 - its validators raise classes of their own
        reason = " ".join(str(error).split())
        raise ValueError(f"{_SOURCE} is not accepted by transformers: {reason}") from error
    layer_types = full.get("layer_types") or ["full_attention"] * full["num_hidden_layers"]
    rope = full["rope_parameters"]
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    scale = full.get("query_pre_attn_scalar")
    refuse_others(
        _SOURCE,
        {
            "hidden_act": (
                full.get("hidden_activation", full.get("hidden_act")),
                _ACTIVATIONS[family.activation],
            ),
            "attention_bias": (full.get("attention_bias", False), False),
            "mlp_bias": (full.get("mlp_bias", False), False),
            "use_bidirectional_attention": (
                bool(full.get("use_bidirectional_attention")),
                False,
            ),
            "partial_rotary_factor": (rope.get("partial_rotary_factor", 1.0), 1.0),
            "rope_type of sliding layers": ((local or {}).get("rope_type", "default"), "default"),
            "other layer_types": (
                sorted(set(layer_types) - {"full_attention", "sliding_attention"}),
                [],
            ),
        },
    )
    sliding = tuple(kind == "sliding_attention" for kind in layer_types)
    heads = full["num_attention_heads"]
    head_dim = full.get("head_dim") or full["hidden_size"] // heads
    return ModelConfig(
        vocab_size=full["vocab_size"],
        embed_dim=full["hidden_size"],
        mlp_dim=full["intermediate_size"],
        num_layers=full["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=full.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        family=family,
        rope_theta=float(rope["rope_theta"]),
        rope_scaling=_scaling(rope),
        local_rope_theta=float(local["rope_theta"]) if local else None,
        sliding_window=full["sliding_window"] if any(sliding) else None,
        sliding_layers=sliding if any(sliding) else (),
        query_scale=None if scale in (None, head_dim) else scale**-0.5,
        # transformers declares the field for Gemma 3 but computes it for Gemma 2 alone.
        attention_softcap=full.get("attn_logit_softcapping") if model_type == "gemma2" else None,
        logit_softcap=full.get("final_logit_softcapping"),
        rms_norm_eps=full["rms_norm_eps"],
        tie_embeddings=full["tie_word_embeddings"],
        max_position=full["max_position_embeddings"],
    )


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", float(rope["factor"]))
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            float(rope["factor"]),
            float(rope["low_freq_factor"]),
            float(rope["high_freq_factor"]),
            rope["original_max_position_embeddings"],
        )
    raise ValueError(
        f"{_SOURCE} has rope_type={kind!r}, expected one of ['default', 'linear', 'llama3'], which"
        " are all that this decoder computes; choose another model."
    )


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model, in the form that all releases of the serving programs read."""
    family = config.family
    fields: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling_to_hf(config.rope_scaling),
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "max_position_embeddings": config.max_position,
        "attention_bias": False,
    }
    activation = _ACTIVATIONS[family.activation]
    sliding = config.sliding_layers or (False,) * config.num_layers
    layer_types = ["sliding_attention" if slides else "full_attention" for slides in sliding]
    if family.model_type in ("gemma2", "gemma3_text"):
        fields |= {
            "hidden_activation": activation,
            "query_pre_attn_scalar": _query_scalar(config),
            "sliding_window": config.sliding_window,
            "layer_types": layer_types,
            "attn_logit_softcapping": config.attention_softcap,
            "final_logit_softcapping": config.logit_softcap,
        }
    else:
        fields |= {"hidden_act": activation}
    if family.model_type == "gemma3_text":
        fields |= {"rope_local_base_freq": config.local_rope_theta or config.rope_theta}
    if family.model_type in ("qwen2", "qwen3"):
        fields |= {
            "use_sliding_window": any(sliding),
            "sliding_window": config.sliding_window,
            "layer_types": layer_types,
        }
    if family.model_type == "llama":
        fields |= {"mlp_bias": False}
    return fields


def _query_scalar(config: ModelConfig) -> int | float:
    scalar = config.attention_scale**-2
    return round(scalar) if abs(scalar - round(scalar)) < 1e-6 * scalar else scalar


def _rope_scaling_to_hf(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    fields: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        fields |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position,
        }
    return fields
