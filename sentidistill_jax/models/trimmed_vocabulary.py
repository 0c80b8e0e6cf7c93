"""A byte-pair tokenizer with fewer tokens that still encodes every text.

A text all of whose tokens are kept becomes the same tokens: a merge is kept if both its parts and
its result are, and with a token everything that any merge makes it of is kept, so each merge that
the larger tokenizer would apply is there, in the same order. Any other text falls into smaller
tokens, down to bytes.
"""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import transformers
from jaxtyping import Float, Int
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

_FILE = "trimmed_vocabulary.json"


@dataclasses.dataclass(frozen=True)
class TrimmedVocabulary:
    """Which tokens of a larger vocabulary a model has; its own ids count through them."""

    kept_ids: Int[np.ndarray, " vocab"]  # of the larger vocabulary, ascending
    source_vocab_size: int  # rows of the larger embedding
    source_tokenizer: str  # fingerprint of the larger tokenizer

    @property
    def new_ids(self) -> Int[np.ndarray, " source_vocab"]:
        """Own id of every token of the larger vocabulary; -1 where it is not kept."""
        ids = np.full((self.source_vocab_size,), -1, np.int32)
        ids[self.kept_ids] = np.arange(len(self.kept_ids), dtype=np.int32)
        return ids

    def save(self, directory: pathlib.Path) -> None:
        """Writes it beside a model."""
        values = dataclasses.asdict(self) | {"kept_ids": self.kept_ids.tolist()}
        (directory / _FILE).write_text(json.dumps(values) + "\n")

    @classmethod
    def load(cls, directory: pathlib.Path) -> "TrimmedVocabulary | None":
        """What `save` wrote, or None where there is nothing."""
        file = directory / _FILE
        if not file.is_file():
            return None
        values = json.loads(file.read_text())
        return cls(**values | {"kept_ids": np.asarray(values["kept_ids"], np.int32)})


def choose_tokens(
    tokenizer: PreTrainedTokenizerBase,
    needed: Iterable[int],
    frequencies: Float[np.ndarray, " vocab"],
    size: int,
) -> Int[np.ndarray, " kept"]:
    """The tokens of a smaller vocabulary, ascending.

    Kept are the needed tokens, all special and single-byte tokens, and what merges make them of.
    Up to `size` the most frequent others follow, equally frequent ones in the order of their
    merges.

    Args:
      tokenizer: With a byte-pair model.
      needed: Ids.
      frequencies: How often each id occurs, in any unit.
      size: Number of tokens to keep; 0: as few as can be.

    Raises:
      ValueError: If the tokenizer is of another kind, or `size` is too small.
    """
    state = _state(tokenizer)
    vocab: Mapping[str, int] = state["model"]["vocab"]
    parts: dict[int, list[tuple[int, int]]] = {}  # token -> what it is merged of
    ranks: dict[int, int] = {}
    for rank, (first, second) in enumerate(state["model"]["merges"]):
        token = vocab[first + second]
        parts.setdefault(token, []).append((vocab[first], vocab[second]))
        ranks.setdefault(token, rank)

    def closure(tokens: Iterable[int], kept: set[int]) -> set[int]:
        """The tokens, and all that makes them, that are not kept yet."""
        found, waiting = set(), [token for token in tokens if token not in kept]
        while waiting:
            token = waiting.pop()
            if token not in found:
                found.add(token)
                of = (part for pair in parts.get(token, ()) for part in pair)
                waiting += [part for part in of if part not in kept]
        return found

    kept = closure([*needed, *_essential(state)], set())
    if size and size < len(kept):
        raise ValueError(
            f"student.vocabulary_size={size} must be at least {len(kept)}, the tokens that occur in"
            " the caches and those that no text can do without, or 0 for just these."
        )
    if size > len(kept):
        every = sorted(set(vocab.values()) - kept)
        last = len(ranks)
        for token in sorted(every, key=lambda one: (-frequencies[one], ranks.get(one, last), one)):
            more = closure([token], kept)
            if len(kept) + len(more) <= size:
                kept |= more
    return np.array(sorted(kept), np.int32)


def trim_tokenizer(
    tokenizer: PreTrainedTokenizerBase, kept_ids: Int[np.ndarray, " kept"]
) -> PreTrainedTokenizerBase:
    """The tokenizer with only these tokens, numbered in their order.

    Args:
      tokenizer: Stays as it is.
      kept_ids: From `choose_tokens`, ascending.

    Raises:
      ValueError: If what it puts around a text cannot be renumbered.
    """
    state = _state(tokenizer)
    new_ids = {int(old): new for new, old in enumerate(kept_ids)}
    model = state["model"]
    vocab = {token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids}
    model["vocab"] = vocab
    model["merges"] = [
        [first, second]
        for first, second in model["merges"]
        if first in vocab and second in vocab and first + second in vocab
    ]
    for token in state["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    if state["post_processor"] is not None:
        _renumber(state["post_processor"], new_ids)
    # Through files, as every export goes: whatever else belongs to the tokenizer comes along.
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save_pretrained(directory)
        files = pathlib.Path(directory)
        (files / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))
        settings = json.loads((files / "tokenizer_config.json").read_text())
        settings.pop("added_tokens_decoder", None)  # a second list of them, with old ids
        (files / "tokenizer_config.json").write_text(json.dumps(settings))
        return read_tokenizer(files)


def read_tokenizer(directory: pathlib.Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face directory; no code that lies in it is run.

    Raises:
      ValueError: If it has none, or none that transformers can read without such code.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - whatever transformers and its readers stumble over
        raise ValueError(
            f"{directory} has no tokenizer that can be read ({' '.join(str(error).split())[:200]});"
            " copy the tokenizer of the model there."
        ) from error


def _state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    state = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    kind, prefix = state["model"]["type"], state["model"].get("continuing_subword_prefix")
    if kind != "BPE" or prefix:
        raise ValueError(
            f"the tokenizer has a {kind} model with the prefix {prefix!r} inside words, expected"
            " BPE without one, which is all that can be trimmed; set student.vocabulary='full'."
        )
    return state


def _essential(state: Mapping[str, Any]) -> set[int]:
    """Special tokens, and one for every byte as far as the tokenizer has them."""
    single = {*pre_tokenizers.ByteLevel.alphabet(), *(f"<0x{byte:02X}>" for byte in range(256))}
    # What stands for a space where the model does not work on bytes, and for unknown characters.
    single |= {"\u2581", state["model"]["unk_token"]}
    of_bytes = {index for token, index in state["model"]["vocab"].items() if token in single}
    return of_bytes | {token["id"] for token in state["added_tokens"]}


def _renumber(processor: dict[str, Any], new_ids: Mapping[int, int]) -> None:
    """Gives the special tokens of a post-processor their new ids, in place."""
    kind = processor["type"]
    if kind == "Sequence":
        for one in processor["processors"]:
            _renumber(one, new_ids)
    elif kind == "TemplateProcessing":
        for special in processor["special_tokens"].values():
            special["ids"] = [new_ids[old] for old in special["ids"]]
    elif kind != "ByteLevel":
        raise ValueError(
            f"the tokenizer has a {kind} post-processor, expected TemplateProcessing or ByteLevel;"
            " set student.vocabulary='full'."
        )
