"""A model as a GGUF file that llama.cpp runs, in the form that its own converter writes."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import gguf
import jax
import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType

from sentidistill_jax.export.gguf_tokenizer import tokenizer_fields
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.config_files import config_from_gguf
from sentidistill_jax.models.gguf import ROPE_FACTORS
from sentidistill_jax.models.hf import hf_tensors
from sentidistill_jax.models.load import LoadedModel
from sentidistill_jax.models.rope import frequencies

_TYPES = {
    "float32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "float16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bfloat16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def export_gguf(
    model: LoadedModel,
    path: pathlib.Path,
    *,
    dtype: str = "float16",
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes weights, shape, tokenizer and chat template; the file appears whole or not at all.

    Of several processes the first writes; all must call it, for each holds a part of the weights.

    Args:
      model: What to write.
      path: Replaced if it is there.
      dtype: Of the matrices: float32, float16, bfloat16 or q8_0 (8 bits and a scale for each 32
        weights); vectors stay float32.
      about: Further metadata, such as general.license.

    Raises:
      ValueError: If there is no such dtype, or a file cannot say what the model computes.
    """
    if dtype not in _TYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {list(_TYPES)} in a GGUF file.")
    config, (kind, file_type) = model.decoder.config, _TYPES[dtype]
    fields = _shape_fields(config)
    ends = model.generation.get("eos_token_id")
    ends = ends if isinstance(ends, list) else []
    fields |= tokenizer_fields(model.tokenizer, config.vocab_size, ends)
    factors = _rope_factors(config)
    _check(fields, config, factors)
    fields |= {"general.name": path.stem, "general.file_type": int(file_type), **(about or {})}
    temporary = path.with_name(f".{path.name}.partial")
    writes = jax.process_index() == 0
    # A temporary file takes each tensor as it comes; else all would be in memory at the end.
    writer = gguf.GGUFWriter(None, fields.pop("general.architecture"), use_temp_file=True)
    if writes:
        for name, value in fields.items():
            _add(writer, name, value)
        if factors is not None:
            writer.add_tensor(ROPE_FACTORS, factors)
    names = _tensor_names(config)
    for name, tensor in hf_tensors(model.decoder):
        if writes:
            value = _as_stored(names[name], tensor.astype(np.float32), config)
            of = _stored_type(value, kind)
            writer.add_tensor(names[name], gguf.quantize(value, of), raw_dtype=of)
    if not writes:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file(temporary)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.chmod(0o644)
    os.replace(temporary, path)


def _shape_fields(config: ModelConfig) -> dict[str, Any]:
    form = config.family.gguf
    if form is None:
        raise ValueError(
            f"models of the family {config.family.model_type!r} are not written as GGUF files;"
            " export them for transformers."
        )
    fields: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position,
        "embedding_length": config.embed_dim,
        "block_count": config.num_layers,
        "feed_forward_length": config.mlp_dim,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(config.rope_theta),
    }
    if config.sliding_window is not None:
        fields["attention.sliding_window"] = config.sliding_window
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        fields["rope.scaling.type"] = "linear"
        fields["rope.scaling.factor"] = float(config.rope_scaling.factor)
    name = form.architecture
    return {
        "general.architecture": name,
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **{f"{name}.{field}": value for field, value in fields.items()},
    }


def _rope_factors(config: ModelConfig) -> np.ndarray | None:
    """Divisors of the rotary frequencies of Llama 3, which its files hold as a tensor."""
    if config.rope_scaling is None or config.rope_scaling.kind != "llama3":
        return None
    plain = frequencies(config.head_dim, config.rope_theta, None)
    scaled = frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    return (plain / scaled).astype(np.float32)


def _check(fields: Mapping[str, Any], config: ModelConfig, factors: np.ndarray | None) -> None:
    """Refuses a model that a reader of the file would take for another."""
    read = config_from_gguf(fields, tie_embeddings=config.tie_embeddings, rope_factors=factors)
    differing = [
        f"{field.name} is {getattr(config, field.name)!r}, and it would be read as"
        f" {getattr(read, field.name)!r}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(read, field.name)
    ]
    if differing:
        raise ValueError(
            f"a GGUF file cannot say what the model computes: {'; '.join(differing)}; export it for"
            " transformers."
        )


def _tensor_names(config: ModelConfig) -> dict[str, str]:
    """Hugging Face tensor name -> name in the file."""
    return {
        names.hf.format(layer=layer): names.gguf.format(layer=layer)
        for names in config.family.tensor_names.values()
        for layer in range(config.num_layers)
    }


def _as_stored(name: str, tensor: np.ndarray, config: ModelConfig) -> np.ndarray:
    heads = {"attn_q.weight": config.num_heads, "attn_k.weight": config.num_kv_heads}
    of = heads.get(name.split(".", 2)[-1])
    if of and config.family.gguf is not None and config.family.gguf.paired_rope:
        rows, columns = tensor.shape
        halves = tensor.reshape(of, 2, rows // of // 2, columns)
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
    if name.endswith("norm.weight"):
        return tensor + np.float32(config.family.norm_offset)
    return tensor


def _stored_type(tensor: np.ndarray, wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    """Vectors stay float32; rows that are no multiple of a block of 8-bit weights are float16."""
    if tensor.ndim == 1:
        return GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else GGMLQuantizationType.F16


def _add(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    kinds = {
        bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
        str: writer.add_string, list: writer.add_array,
    }  # fmt: skip
    kinds[type(value)](name, value)
