"""Models in GGUF files: weights dequantised by the `gguf` package, tokenizer rebuilt."""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gguf
import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from sentidistill_jax.models.config_files import config_from_gguf

ROPE_FACTORS = "rope_freqs.weight"


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
        factors = self._tensors.pop(ROPE_FACTORS, None)
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
        number = re.match(r"blk\.(\d+)\.", name)
        layer = int(number[1]) if number else 0
        template = re.sub(r"^blk\.\d+\.", "blk.{layer}.", name)
        names = {names.gguf: names.hf for names in self.config.family.tensor_names.values()}
        if template not in names or layer >= self.config.num_layers:
            raise ValueError(
                f"the GGUF file holds the tensor {name!r}, which this decoder does not use; choose"
                " another model."
            )
        return names[template].format(layer=layer)

    def _reader(self, tensor: Any) -> Callable[[], np.ndarray]:
        config = self.config
        kind = tensor.name.split(".", 2)[-1]
        heads = {"attn_q.weight": config.num_heads, "attn_k.weight": config.num_kv_heads}
        paired = config.family.gguf is not None and config.family.gguf.paired_rope and kind in heads
        # Files of norms with an offset store offset + scale.
        offset = config.family.norm_offset if tensor.name.endswith("norm.weight") else 0.0

        def read() -> np.ndarray:
            value = gguf.dequantize(tensor.data, tensor.tensor_type)
            if paired:
                return _unpermute(value, heads[kind])
            return value - np.float32(offset) if offset else value

        return read


# Role of a special token in transformers -> in GGUF metadata.
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_SPACE = "▁"  # how SentencePiece writes a space


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


# How a text is cut before byte-level merges: the patterns of the published tokenizers. What they
# have in common is contractions, words with the space before them, runs of other signs, line ends.
def _pattern(digits: str, contractions: str) -> str:
    return (
        rf"{contractions}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_ANY_CASE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
BYTE_LEVEL: Mapping[str, Sequence[pre_tokenizers.PreTokenizer]] = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),),
    "smollm": (
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ),
    "llama-bpe": (
        _split(_pattern("{1,3}", _ANY_CASE)),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ),
    "qwen2": (
        _split(_pattern("", _ANY_CASE)),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ),
}


def build_tokenizer(fields: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file describes.

    Args:
      fields: Names and values of the file's metadata.

    Raises:
      ValueError: If it is of a kind that is not rebuilt here.
    """
    model, pre = fields.get("tokenizer.ggml.model", ""), fields.get("tokenizer.ggml.pre", "")
    if model == "gpt2" and pre in BYTE_LEVEL:
        backend = _byte_level(fields, BYTE_LEVEL[pre])
        if pre == "qwen2":
            backend.normalizer = normalizers.NFC()  # type: ignore[assignment]
    elif model == "llama":
        backend = _sentencepiece(fields)
    else:
        raise ValueError(
            f"the GGUF file has tokenizer {(model, pre)}, expected ('llama', any) or 'gpt2' with"
            f" one of {sorted(BYTE_LEVEL)}; choose another model."
        )
    _add_tokens(backend, fields)
    tokens = fields["tokenizer.ggml.tokens"]
    roles = {
        f"{ours}_token": tokens[fields[f"tokenizer.ggml.{theirs}_token_id"]]
        for ours, theirs in _ROLES.items()
        if f"tokenizer.ggml.{theirs}_token_id" in fields
    }
    if fields.get("tokenizer.ggml.add_bos_token"):
        bos = roles["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, backend.token_to_id(bos))],
        )  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=fields.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **roles,
    )


def _byte_level(
    fields: Mapping[str, Any], pieces: Sequence[pre_tokenizers.PreTokenizer]
) -> tokenizers.Tokenizer:
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    backend = tokenizers.Tokenizer(
        BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(pieces))  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return backend


def _sentencepiece(fields: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """BPE over characters with spaces written as ▁, and bytes for characters without a token."""
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    scores = fields["tokenizer.ggml.scores"]
    normal = {
        token: score
        for token, score, kind in zip(tokens, scores, types, strict=True)
        if kind == gguf.TokenType.NORMAL
    }
    unknown = tokens[fields.get("tokenizer.ggml.unknown_token_id", 0)]
    backend = tokenizers.Tokenizer(
        BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=_merges(normal),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = fields.get("tokenizer.ggml.add_space_prefix", True)
    backend.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [*([normalizers.Prepend(_SPACE)] if prefix else []), normalizers.Replace(" ", _SPACE)]
    )
    backend.decoder = decoders.Sequence(  # type: ignore[assignment]
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(content=" ", left=1)] if prefix else []),
        ]
    )
    return backend


def _merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs that make up a token, in the order in which SentencePiece would join them."""
    merges = [
        (-score, index, token[:cut], token[cut:])
        for index, (token, score) in enumerate(scores.items())
        for cut in range(1, len(token))
        if token[:cut] in scores and token[cut:] in scores
    ]
    return [(left, right) for _, _, left, right in sorted(merges)]


def _add_tokens(backend: tokenizers.Tokenizer, fields: Mapping[str, Any]) -> None:
    """Tokens that are found in a text before anything else is done to it."""
    typed = list(
        zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True)
    )
    backend.add_tokens(
        [
            AddedToken(token, normalized=False)
            for token, kind in typed
            if kind == gguf.TokenType.USER_DEFINED
        ]
    )
    backend.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, kind in typed
            if kind in (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)
        ]
    )
