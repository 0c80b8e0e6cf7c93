"""A tokenizer as the metadata of a GGUF file: what `models.gguf.build_tokenizer` reads."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.models.gguf import BYTE_LEVEL, build_tokenizer

_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_ADVICE = "export the model for transformers, which takes any tokenizer."


def tokenizer_fields(
    tokenizer: PreTrainedTokenizerBase, vocab_size: int, ends: Sequence[int] = ()
) -> dict[str, Any]:
    """Names and values of a GGUF file's metadata.

    Args:
      tokenizer: With a byte-pair model.
      vocab_size: Rows of the embedding; those beyond the tokenizer's are named as unused.
      ends: Tokens that end an answer. Beside the tokenizer's own end a file names one; of several,
        the last, which is the newline of a student.

    Raises:
      ValueError: If a file cannot say how the tokenizer cuts texts.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    vocab = dict(state["model"]["vocab"])
    added = {token["content"]: token for token in state["added_tokens"]}
    vocab |= {content: token["id"] for content, token in added.items()}
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    types = [int(gguf.TokenType.UNUSED)] * vocab_size
    for token, index in vocab.items():
        tokens[index], types[index] = token, int(gguf.TokenType.NORMAL)
        if token in added:
            special = added[token]["special"]
            kind = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
            types[index] = int(kind)
    merges = [tuple(merge) for merge in state["model"]["merges"]]
    fields: dict[str, Any] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    if state["model"].get("byte_fallback"):
        fields |= _sentencepiece(state, tokens, types, merges)
    else:
        fields |= {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": _byte_level(state),
            "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        }
    for ours, theirs in _ROLES.items():
        if (index := getattr(tokenizer, f"{ours}_token_id")) is not None:
            fields[f"tokenizer.ggml.{theirs}_token_id"] = index
    others = [end for end in ends if end != tokenizer.eos_token_id]
    if others:
        fields["tokenizer.ggml.eot_token_id"] = others[-1]
    first: Any = tokenizer("a")["input_ids"]
    begins = tokenizer.bos_token_id is not None and first[0] == tokenizer.bos_token_id
    fields["tokenizer.ggml.add_bos_token"] = begins
    if tokenizer.chat_template:
        fields["tokenizer.chat_template"] = tokenizer.chat_template
    _check(fields, state, merges)
    return fields


def _byte_level(state: Mapping[str, Any]) -> str:
    """Name of the way in which texts are cut before bytes are merged."""
    found = state["pre_tokenizer"] or {}
    for name, pieces in BYTE_LEVEL.items():
        known = [json.loads(piece.__getstate__()) for piece in pieces]
        if _without_offsets(known) == _without_offsets(found.get("pretokenizers", [found])):
            return name
    raise ValueError(
        f"the tokenizer cuts texts in a way that no GGUF file of {sorted(BYTE_LEVEL)} does;"
        f" {_ADVICE}"
    )


def _without_offsets(pieces: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: of for key, of in piece.items() if key != "trim_offsets"} for piece in pieces]


def _sentencepiece(
    state: Mapping[str, Any], tokens: Sequence[str], types: list[int], merges: Sequence[Any]
) -> dict[str, Any]:
    """Scores by which pairs are joined in the order of the merges; `types` learns of bytes."""
    ranks: dict[str, int] = {}
    for rank, (first, second) in enumerate(merges):
        ranks.setdefault(first + second, rank)
    for byte in range(256):
        name = f"<0x{byte:02X}>"
        if name in state["model"]["vocab"]:
            types[state["model"]["vocab"][name]] = int(gguf.TokenType.BYTE)
    unknown = state["model"]["unk_token"]
    types[tokens.index(unknown)] = int(gguf.TokenType.UNKNOWN)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": [-float(ranks.get(token, len(merges))) for token in tokens],
        "tokenizer.ggml.add_space_prefix": '"Prepend"' in json.dumps(state["normalizer"]),
    }


def _check(fields: Mapping[str, Any], state: Mapping[str, Any], merges: Sequence[Any]) -> None:
    """Refuses a tokenizer that a reader of the file would not get back."""
    again = json.loads(build_tokenizer(fields).backend_tokenizer.to_str())
    if [tuple(merge) for merge in again["model"]["merges"]] != merges:
        raise ValueError(f"the order of the tokenizer's merges cannot be told by scores; {_ADVICE}")
    steps = ("Replace", "Prepend", "NFC")
    ours, theirs = (json.dumps(one["normalizer"] or {}) for one in (state, again))
    if any((step in ours) != (step in theirs) for step in steps):
        raise ValueError(f"the tokenizer changes texts as no GGUF file can say: {ours}; {_ADVICE}")
