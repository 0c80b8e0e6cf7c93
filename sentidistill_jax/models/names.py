"""Hugging Face names and layouts of our parameters: one table, read in both directions."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sentidistill_jax.models.config import ModelConfig

Path = tuple[Any, ...]
HEAD: Path = ("lm_head",)

# Our parameter -> Hugging Face tensor. Those with {layer} are stacked along a leading layers dim.
_NAMES: Mapping[Path, str] = {
    ("embedding",): "model.embed_tokens.weight",
    ("layers", "attention_norm", "scale"): "model.layers.{layer}.input_layernorm.weight",
    ("layers", "attention", "q_proj"): "model.layers.{layer}.self_attn.q_proj.weight",
    ("layers", "attention", "k_proj"): "model.layers.{layer}.self_attn.k_proj.weight",
    ("layers", "attention", "v_proj"): "model.layers.{layer}.self_attn.v_proj.weight",
    ("layers", "attention", "q_bias"): "model.layers.{layer}.self_attn.q_proj.bias",
    ("layers", "attention", "k_bias"): "model.layers.{layer}.self_attn.k_proj.bias",
    ("layers", "attention", "v_bias"): "model.layers.{layer}.self_attn.v_proj.bias",
    ("layers", "attention", "q_norm", "scale"): "model.layers.{layer}.self_attn.q_norm.weight",
    ("layers", "attention", "k_norm", "scale"): "model.layers.{layer}.self_attn.k_norm.weight",
    ("layers", "attention", "o_proj"): "model.layers.{layer}.self_attn.o_proj.weight",
    ("layers", "mlp_norm", "scale"): "model.layers.{layer}.post_attention_layernorm.weight",
    ("layers", "mlp", "gate_proj"): "model.layers.{layer}.mlp.gate_proj.weight",
    ("layers", "mlp", "up_proj"): "model.layers.{layer}.mlp.up_proj.weight",
    ("layers", "mlp", "down_proj"): "model.layers.{layer}.mlp.down_proj.weight",
    ("final_norm", "scale"): "model.norm.weight",
    HEAD: "lm_head.weight",
}
# With norms on both sides, the name that others give to the MLP's own norm is taken.
_SANDWICH_NAMES: Mapping[Path, str] = {
    ("layers", "post_attention_norm", "scale"):
        "model.layers.{layer}.post_attention_layernorm.weight",
    ("layers", "mlp_norm", "scale"): "model.layers.{layer}.pre_feedforward_layernorm.weight",
    ("layers", "post_mlp_norm", "scale"): "model.layers.{layer}.post_feedforward_layernorm.weight",
}  # fmt: skip
# Leading dims of our matrices that are inputs: heads and head_dim for o_proj. Hugging Face linear
# layers are [out, in]; ours are [in, out] with heads kept as a dim.
_INPUT_DIMS = {
    "q_proj": 1, "k_proj": 1, "v_proj": 1, "o_proj": 2, "gate_proj": 1, "up_proj": 1, "down_proj": 1
}  # fmt: skip


def tensor_names(config: ModelConfig, path: Path) -> list[str]:
    """Names of the tensors that make up a parameter: one per layer if it is stacked."""
    sandwich = _SANDWICH_NAMES if config.family.sandwich_norms else {}
    name = sandwich.get(path) or _NAMES[path]
    if not is_stacked(path):
        return [name]
    return [name.format(layer=layer) for layer in range(config.num_layers)]


def is_stacked(path: Path) -> bool:
    """Whether a parameter has a leading layers dim."""
    return path[0] == "layers"


def hf_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the Hugging Face tensor that becomes an array of ours (of one layer)."""
    if path[-1] not in _INPUT_DIMS:
        return (math.prod(shape),) if path[-1].endswith("_bias") else shape
    inputs = _INPUT_DIMS[path[-1]]
    return math.prod(shape[inputs:]), math.prod(shape[:inputs])


def to_ours(path: Path, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A Hugging Face tensor in our layout; a view of it."""
    return (tensor.T if path[-1] in _INPUT_DIMS else tensor).reshape(shape)


def to_hf(path: Path, array: np.ndarray) -> np.ndarray:
    """An array of ours in the layout of Hugging Face, contiguous."""
    shape = hf_shape(path, array.shape)
    tensor = array.reshape(shape[::-1]).T if path[-1] in _INPUT_DIMS else array.reshape(shape)
    return np.ascontiguousarray(tensor)
