"""Models in GGUF files: weights dequantised by the `gguf` package, tokenizer rebuilt."""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedTokenizerFast

from sentidistill_jax.models.gguf_config import config_from_gguf
from sentidistill_jax.models.gguf_tokenizer import build_tokenizer
from sentidistill_jax.models.names import HEAD, Path, tensor_names

_ROPE_FACTORS = "rope_freqs.weight"
# GGUF tensor -> our parameter; those of layers are blk.{layer}.{name}.
_PATHS: dict[str, Path] = {
    "token_embd.weight": ("embedding",),
    "output_norm.weight": ("final_norm", "scale"),
    "output.weight": HEAD,
}
_LAYER_PATHS: dict[str, Path] = {
    "attn_norm.weight": ("attention_norm", "scale"),
    "attn_q.weight": ("attention", "q_proj"),
    "attn_k.weight": ("attention", "k_proj"),
    "attn_v.weight": ("attention", "v_proj"),
    "attn_q.bias": ("attention", "q_bias"),
    "attn_k.bias": ("attention", "k_bias"),
    "attn_v.bias": ("attention", "v_bias"),
    "attn_q_norm.weight": ("attention", "q_norm", "scale"),
    "attn_k_norm.weight": ("attention", "k_norm", "scale"),
    "attn_output.weight": ("attention", "o_proj"),
    "post_attention_norm.weight": ("post_attention_norm", "scale"),
    "ffn_norm.weight": ("mlp_norm", "scale"),
    "ffn_gate.weight": ("mlp", "gate_proj"),
    "ffn_up.weight": ("mlp", "up_proj"),
    "ffn_down.weight": ("mlp", "down_proj"),
    "post_ffw_norm.weight": ("post_mlp_norm", "scale"),
}


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q and k from interleaved rotary pairs (llama.cpp) back to halves."""
    rows, columns = weight.shape
    paired = weight.reshape(heads, rows // heads // 2, 2, columns)
    return paired.swapaxes(1, 2).reshape(rows, columns)


class GGUFFile:
    """A memory-mapped GGUF file.

    Args:
      path: Where it is.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged, or its architecture is not one of ours.
    """

    def __init__(self, path: pathlib.Path):
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found; expected a GGUF file.")
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError) as error:  # the two that it raises for any damage
            raise ValueError(
                f"{path} is not a whole GGUF file ({error}); copy it again."
            ) from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        factors = self._tensors.pop(_ROPE_FACTORS, None)
        self.fields: dict[str, Any] = {
            name: field.contents() for name, field in reader.fields.items()
        }
        self.config = config_from_gguf(
            self.fields,
            tie_embeddings="output.weight" not in self._tensors,
            rope_factors=None if factors is None else np.asarray(factors.data, np.float32),
        )

    def tensors(self) -> dict[str, Callable[[], np.ndarray]]:
        """Hugging Face tensor name -> function that dequantises it to float32.

        Raises:
          ValueError: If the file holds a tensor that no decoder of ours has.
        """
        return {self._hf_name(name): self._reader(tensor) for name, tensor in self._tensors.items()}

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer described by the file.

        Raises:
          ValueError: If it is of a kind that is not rebuilt.
        """
        return build_tokenizer(self.fields)

    def _hf_name(self, name: str) -> str:
        if name in _PATHS:
            return tensor_names(self.config, _PATHS[name])[0]
        match = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
        layer = int(match[1]) if match else -1
        if match is None or match[2] not in _LAYER_PATHS or layer >= self.config.num_layers:
            raise ValueError(
                f"the GGUF file holds the tensor {name!r}, which this decoder does not use; choose"
                " another model."
            )
        return tensor_names(self.config, ("layers", *_LAYER_PATHS[match[2]]))[layer]

    def _reader(self, tensor: Any) -> Callable[[], np.ndarray]:
        kind = tensor.name.split(".", 2)[-1]
        heads = {
            "attn_q.weight": self.config.num_heads,
            "attn_k.weight": self.config.num_kv_heads,
        }
        # Only files of the llama architecture store rotary pairs side by side, and only those of
        # norms with an offset store offset + scale.
        interleaved = self.fields["general.architecture"] == "llama" and kind in heads
        offset = self.config.family.norm_offset if tensor.name.endswith("norm.weight") else 0.0

        def read() -> np.ndarray:
            value = gguf.dequantize(tensor.data, tensor.tensor_type)
            if interleaved:
                return _unpermute(value, heads[kind])
            return value - np.float32(offset) if offset else value

        return read
