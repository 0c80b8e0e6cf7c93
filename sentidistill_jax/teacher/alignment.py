"""A server's tokens as the student's: ids where the two tokenizers agree, and nothing elsewhere."""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.data.teacher_cache import SparseTargets
from sentidistill_jax.endpoint.labels import logprob_upper_bound
from sentidistill_jax.endpoint.protocol import TokenLogprobs, token_id, token_name
from sentidistill_jax.inference.tokens import encode, encode_prompt


class Aligner:
    """Finds the ids of tokens by their bytes.

    Args:
      tokenizer: The student's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._ids: dict[str, int] = {}
        ambiguous = set()
        for number, data in enumerate(_vocabulary(tokenizer)):
            name = token_name(data)
            if name in self._ids:
                ambiguous.add(name)
            self._ids[name] = number
        for name in ambiguous:
            del self._ids[name]

    def id_of(self, name: str) -> int | None:
        """The student's id of a token, None if it has no such token or several."""
        number = token_id(name)
        return self._ids.get(name) if number is None else number

    def text_ids(self, text: str, tokens: Sequence[TokenLogprobs]) -> np.ndarray | None:
        """The student's ids of a text, int32, if the server cut it into the very same tokens.

        Args:
          text: What the server wrote.
          tokens: Its tokens; further ones may follow, such as the one that ended it.

        Returns:
          None if the tokens differ, or there are none.
        """
        ids = encode(self._tokenizer, text)
        if len(tokens) < len(ids):
            return None
        same = all(
            self.id_of(token.name) == number for token, number in zip(tokens, ids, strict=False)
        )
        return ids if same else None

    def prompt_agrees(self, prompt: str, count: int | None) -> bool:
        """Whether the server reads as many tokens in a prompt, as far as it says."""
        return count is None or count == len(encode_prompt(self._tokenizer, prompt))

    def joins(self, prompt: str, completion: np.ndarray) -> str | None:
        """Prompt and completion as one text, if the student's tokenizer cuts it back into both."""
        before = encode_prompt(self._tokenizer, prompt)
        text = prompt + str(self._tokenizer.decode(completion))
        after = encode_prompt(self._tokenizer, text)
        return text if np.array_equal(after, np.concatenate([before, completion])) else None

    def targets(
        self, rows: Sequence[Mapping[str, float]], k: int, forced: Mapping[int, np.ndarray]
    ) -> SparseTargets | None:
        """What the lists of a server say about the student's vocabulary.

        Entries that the student lacks, and all but the k likeliest, become part of the tail. A
        forced id that is not listed gets the upper bound of `logprob_upper_bound`.

        Args:
          rows: Name -> logprob for each position.
          k: Most entries by rank.
          forced: Row -> ids that are kept whatever their rank.

        Returns:
          None if nothing that a row lists is in the student's vocabulary.
        """
        counts, all_ids, all_logprobs, tails = [], [], [], []
        for row, candidates in enumerate(rows):
            listed = sorted(candidates.items(), key=lambda item: -item[1])
            wanted = set(map(int, forced.get(row, ())))
            kept: dict[int, float] = {}
            for rank, (name, logprob) in enumerate(listed):
                number = self.id_of(name)
                if number is not None and (rank < k or number in wanted):
                    kept[number] = logprob
            if not kept:
                return None
            missing = sorted(wanted - kept.keys())
            bound, tail = logprob_upper_bound(kept.values(), len(missing), least=listed[-1][1])
            kept |= dict.fromkeys(missing, bound)
            counts.append(len(kept))
            all_ids += kept.keys()
            all_logprobs += kept.values()
            tails.append(tail)
        return SparseTargets(
            counts=np.array(counts, np.int32),
            ids=np.array(all_ids, np.int32),
            logprobs=np.array(all_logprobs, np.float32),
            tail_logprobs=np.array(tails, np.float32)[:, None],
        )


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """The bytes of every token, special ones as they are written."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_ids)
    state = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    to_bytes = _byte_level if '"ByteLevel"' in json.dumps(state["decoder"]) else _pieces
    return [
        token.encode() if number in special else to_bytes(token)
        for number, token in enumerate(tokens)
    ]


def _byte_level(token: str) -> bytes:
    """Byte-level BPE writes each byte as one printable character."""
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return token.encode()  # an added token


def _pieces(token: str) -> bytes:
    """SentencePiece writes a space as U+2581, and lone bytes as <0x0A>."""
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    return bytes.fromhex(byte[1]) if byte else token.replace("\u2581", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte: printable ones stand for themselves, the others follow from U+0100 on."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    itself = {chr(byte): byte for byte in range(256) if chr(byte) in alphabet}
    others = [byte for byte in range(256) if chr(byte) not in alphabet]
    return itself | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
