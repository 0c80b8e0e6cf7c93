"""A model's shape from the metadata of its files: Hugging Face `config.json` and GGUF.

A setting that this decoder does not compute is refused rather than ignored.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import transformers

from sentidistill_jax.models.config import ModelConfig, RopeScaling, every_nth_is_global
from sentidistill_jax.models.families import FAMILIES, gguf_families
from sentidistill_jax.models.rope import frequencies

_HF, _GGUF = "config.json", "the GGUF file"
_HF_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"
)  # fmt: skip
_HF_ACTIVATIONS = {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}


def _hf_activation(config: ModelConfig) -> str:
    return _HF_ACTIVATIONS[config.family.activation]


def _layer_types(config: ModelConfig) -> list[str]:
    sliding = config.sliding_layers or (False,) * config.num_layers
    return ["sliding_attention" if slides else "full_attention" for slides in sliding]


def _query_scalar(config: ModelConfig) -> int | float:
    scalar = config.attention_scale**-2
    return round(scalar) if abs(scalar - round(scalar)) < 1e-6 * scalar else scalar


# Field of config.json that only some families have -> how it is written.
HF_FIELDS: Mapping[str, Callable[[ModelConfig], Any]] = {
    "hidden_act": _hf_activation,
    "hidden_activation": _hf_activation,
    "mlp_bias": lambda config: False,
    "query_pre_attn_scalar": _query_scalar,
    "use_sliding_window": lambda config: any(config.sliding_layers),
    "sliding_window": lambda config: config.sliding_window,
    "layer_types": _layer_types,
    "attn_logit_softcapping": lambda config: config.attention_softcap,
    "final_logit_softcapping": lambda config: config.logit_softcap,
    "rope_local_base_freq": lambda config: config.local_rope_theta or config.rope_theta,
}


def config_from_hf(fields: Mapping[str, Any]) -> ModelConfig:
    """Reads a Hugging Face `config.json`; what it leaves out is as transformers has it.

    Raises:
      ValueError: If a field is missing, or the architecture or a setting is one that this decoder
        does not compute.
    """
    model_type = fields.get("model_type", "")
    family = FAMILIES[_known(_HF, "model_type", model_type, FAMILIES)]
    for size in _HF_SIZES:
        _required(_HF, fields, size)
    try:
        full = transformers.AutoConfig.for_model(**fields).to_dict()
    except Exception as error:  # noqa: BLE001 - its validators raise classes of their own
        reason = " ".join(str(error).split())
        raise ValueError(f"{_HF} is not accepted by transformers: {reason}") from error
    layer_types = full.get("layer_types") or ["full_attention"] * full["num_hidden_layers"]
    rope = full["rope_parameters"]
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    activation = full.get("hidden_activation", full.get("hidden_act"))
    bidirectional = bool(full.get("use_bidirectional_attention"))
    local_type = (local or {}).get("rope_type", "default")
    others = sorted(set(layer_types) - {"full_attention", "sliding_attention"})
    _refuse_others(_HF, "hidden_act", activation, _HF_ACTIVATIONS[family.activation])
    _refuse_others(_HF, "attention_bias", full.get("attention_bias", False), False)
    _refuse_others(_HF, "mlp_bias", full.get("mlp_bias", False), False)
    _refuse_others(_HF, "use_bidirectional_attention", bidirectional, False)
    _refuse_others(_HF, "partial_rotary_factor", rope.get("partial_rotary_factor", 1.0), 1.0)
    _refuse_others(_HF, "rope_type of sliding layers", local_type, "default")
    _refuse_others(_HF, "other layer_types", others, [])
    sliding = tuple(kind == "sliding_attention" for kind in layer_types)
    heads = full["num_attention_heads"]
    head_dim = full.get("head_dim") or full["hidden_size"] // heads
    kv_heads, scalar = full.get("num_key_value_heads"), full.get("query_pre_attn_scalar")
    # Others than Qwen's are built with a window even where no layer slides.
    always = "use_sliding_window" not in family.hf_fields
    # transformers declares the field for Gemma 3 but computes it for Gemma 2 alone.
    softcaps_attention = "attn_logit_softcapping" in family.hf_fields
    return ModelConfig(
        vocab_size=full["vocab_size"],
        embed_dim=full["hidden_size"],
        mlp_dim=full["intermediate_size"],
        num_layers=full["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=heads if kv_heads is None else kv_heads,
        head_dim=head_dim,
        family=family,
        rope_theta=float(rope["rope_theta"]),
        rope_scaling=_rope_scaling_from_hf(rope),
        local_rope_theta=float(local["rope_theta"]) if local else None,
        sliding_window=full.get("sliding_window") if any(sliding) or always else None,
        sliding_layers=sliding if any(sliding) else (),
        query_scale=None if scalar in (None, head_dim) else scalar**-0.5,
        attention_softcap=full.get("attn_logit_softcapping") if softcaps_attention else None,
        logit_softcap=full.get("final_logit_softcapping"),
        rms_norm_eps=full["rms_norm_eps"],
        tie_embeddings=full["tie_word_embeddings"],
        max_position=full["max_position_embeddings"],
    )


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model, in the form that all releases of the serving programs read."""
    family = config.family
    return {
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
        **{name: HF_FIELDS[name](config) for name in family.hf_fields},
    }


def _rope_scaling_from_hf(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = _known(
        _HF, "rope_type", rope.get("rope_type", "default"), ("default", "linear", "llama3")
    )
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", float(rope["factor"]))
    return RopeScaling(
        "llama3",
        float(rope["factor"]),
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
        rope["original_max_position_embeddings"],
    )


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
    families = gguf_families()
    name = _known(_GGUF, "general.architecture", fields.get("general.architecture"), families)
    family, form = families[name]

    def get(key: str, *default: Any) -> Any:
        if default:
            return fields.get(f"{name}.{key}", default[0])
        return _required(_GGUF, fields, f"{name}.{key}")

    scaling_type = _known(
        _GGUF, f"{name}.rope.scaling.type", get("rope.scaling.type", "none"), ("none", "linear")
    )
    heads, embed_dim = get("attention.head_count"), get("embedding_length")
    layers = get("block_count")
    head_dim = get("attention.key_length", embed_dim // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        _refuse_others(_GGUF, f"{name}.{key}", get(key, head_dim), head_dim)
    theta = get("rope.freq_base", 10_000.0)
    scaling = None
    if scaling_type == "linear":
        scaling = RopeScaling("linear", get("rope.scaling.factor"))
    if rope_factors is not None:
        scaling = _llama3_scaling(rope_factors, head_dim, theta)
    by_width = form.width_scaled_layers and layers == form.width_scaled_layers
    return ModelConfig(
        vocab_size=len(_required(_GGUF, fields, "tokenizer.ggml.tokens")),
        embed_dim=embed_dim,
        mlp_dim=get("feed_forward_length"),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=get("attention.head_count_kv", heads),
        head_dim=head_dim,
        family=family,
        rope_theta=theta,
        rope_scaling=scaling,
        local_rope_theta=form.local_rope_theta,
        sliding_window=get("attention.sliding_window") if form.global_every else None,
        sliding_layers=every_nth_is_global(layers, form.global_every) if form.global_every else (),
        query_scale=(embed_dim / heads) ** -0.5 if by_width else None,
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        tie_embeddings=tie_embeddings,
        max_position=get("context_length"),
    )


def _llama3_scaling(factors: np.ndarray, head_dim: int, theta: float) -> RopeScaling:
    """The scaling whose divisors a file holds: its constants are those of all Llama 3 models."""
    scaling = RopeScaling("llama3", round(float(factors.max()), 3))
    expected = frequencies(head_dim, theta, None) / frequencies(head_dim, theta, scaling)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-4):
        raise ValueError(
            f"{_GGUF} has rotary factors (tensor 'rope_freqs.weight') that are not those of"
            f" Llama 3 with factor {scaling.factor}, the only ones that this decoder computes;"
            " choose another model."
        )
    return scaling


def _required(source: str, fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"{source} lacks the field {name!r}; is it the file of a decoder?")
    return fields[name]


def _known(source: str, field: str, value: Any, known: Any) -> Any:
    """The value, which must be one of those known."""
    if value not in known:
        raise ValueError(
            f"{source} has {field}={value!r}, expected one of {sorted(known)}, which are all that"
            " this decoder computes; choose another model."
        )
    return value


def _refuse_others(source: str, field: str, got: Any, expected: Any) -> None:
    if got != expected:
        raise ValueError(
            f"{source} has {field}={got!r}, expected {expected!r}, which is all this decoder"
            " computes; choose another model."
        )
