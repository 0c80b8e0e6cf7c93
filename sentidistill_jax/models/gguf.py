"""Models in GGUF files: weights dequantised by the `gguf` package, tokenizer rebuilt."""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import tokenizers
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from sentidistill_jax.models.config import ModelConfig

_SPECIAL_TOKEN = int(gguf.TokenType.CONTROL)
# Role of a special token in transformers -> in GGUF metadata.
_SPECIAL_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}

_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


def _hf_name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    layer_name = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    if layer_name is None or layer_name[2] not in _LAYER_NAMES:
        raise ValueError(
            f"the GGUF file holds the tensor {name!r}, which this decoder does not use; choose"
            " another model."
        )
    return f"model.layers.{layer_name[1]}.{_LAYER_NAMES[layer_name[2]]}"


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
        self.fields: dict[str, Any] = {
            name: field.contents() for name, field in reader.fields.items()
        }
        self.config = ModelConfig.from_gguf(
            self.fields, tie_embeddings="output.weight" not in self._tensors
        )

    def tensors(self) -> dict[str, Callable[[], np.ndarray]]:
        """Hugging Face tensor name -> function that dequantises it to float32."""
        heads = {
            "attn_q.weight": self.config.num_heads,
            "attn_k.weight": self.config.num_kv_heads,
        }

        def reader(tensor: Any) -> Callable[[], np.ndarray]:
            def read() -> np.ndarray:
                value = gguf.dequantize(tensor.data, tensor.tensor_type)
                kind = tensor.name.split(".", 2)[-1]
                return _unpermute(value, heads[kind]) if kind in heads else value

            return read

        return {_hf_name(name): reader(tensor) for name, tensor in self._tensors.items()}

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The byte-level BPE tokenizer described by the file.

        Raises:
          ValueError: If it is of a kind that this class does not rebuild.
        """
        kind = (self.fields.get("tokenizer.ggml.model"), self.fields.get("tokenizer.ggml.pre"))
        if kind != ("gpt2", "smollm"):
            raise ValueError(
                f"the GGUF file has tokenizer {kind}, expected ('gpt2', 'smollm'); choose another"
                " model."
            )
        tokens = self.fields["tokenizer.ggml.tokens"]
        merges = [tuple(merge.split(" ")) for merge in self.fields["tokenizer.ggml.merges"]]
        backend = tokenizers.Tokenizer(
            BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        types = self.fields["tokenizer.ggml.token_type"]
        backend.add_special_tokens(
            [t for t, kind in zip(tokens, types, strict=True) if kind == _SPECIAL_TOKEN]
        )
        special = {
            f"{ours}_token": tokens[self.fields[f"tokenizer.ggml.{theirs}_token_id"]]
            for ours, theirs in _SPECIAL_ROLES.items()
            if f"tokenizer.ggml.{theirs}_token_id" in self.fields
        }
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            chat_template=self.fields.get("tokenizer.chat_template"),
            clean_up_tokenization_spaces=False,
            **special,
        )
