"""Decoders as GGUF files, written as llama.cpp's converter would."""

import pathlib
from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np

from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.hf import hf_tensors

_FIELD_OF = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}


def _interleave(weight, heads):
    """The rows as llama.cpp stores them: pair i of a head is 2i and 2i + 1, not i and i + d/2."""
    stored = np.empty_like(weight)
    size = len(weight) // heads
    for head in range(heads):
        for pair in range(size // 2):
            for half in range(2):
                stored[head * size + 2 * pair + half] = weight[
                    head * size + pair + half * size // 2
                ]
    return stored


def write_gguf(
    path: pathlib.Path, model: Decoder, names: Mapping[str, str] | None = None, **changes: Any
) -> pathlib.Path:
    """Writes a decoder and a tokenizer of three words: t, h and their merge th.

    `names` are further Hugging Face names and what they become. Of `changes`, architecture, pre and
    rope_scaling are metadata; others are tensors to add.
    """
    config = model.config
    architecture = changes.pop("architecture", "llama")
    field_of = _FIELD_OF | dict(names or {})
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_position)
    writer.add_embedding_length(config.embed_dim)
    writer.add_feed_forward_length(config.mlp_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changes.pop("pre", "smollm"))
    fillers = [f"<{index}>" for index in range(config.vocab_size - 3)]
    writer.add_token_list(["t", "h", "th", *fillers])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["t h"])
    if config.sliding_window:
        writer.add_sliding_window(config.sliding_window)
    if "rope_scaling" in changes:
        writer.add_rope_scaling_type(changes.pop("rope_scaling"))
    heads = {"self_attn.q_proj": config.num_heads, "self_attn.k_proj": config.num_kv_heads}
    for name, tensor in hf_tensors(model):
        prefix, (stem, kind) = "", name.rsplit(".", 1)
        if stem.startswith("model.layers."):
            _, _, layer, stem = stem.split(".", 3)
            prefix = f"blk.{layer}."
        if architecture == "llama" and stem in heads and kind == "weight":
            tensor = _interleave(tensor, heads[stem])
        if stem.endswith("norm"):
            tensor = tensor + np.float32(config.family.norm_offset)
        writer.add_tensor(f"{prefix}{field_of[stem]}.{kind}", tensor)
    for name, tensor in changes.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
