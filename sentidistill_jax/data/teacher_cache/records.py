"""What one cache record holds: a training sequence and the teacher's sparse distributions."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

KEY_BYTES = 16


def first_entries(counts: np.ndarray) -> np.ndarray:
    """Index of the first entry of every position, int64 [n], from the entries at each."""
    return np.cumsum(counts, dtype=np.int64) - counts


@dataclasses.dataclass(frozen=True)
class SparseTargets:
    """The teacher's distribution at each of n completion positions, ragged.

    The order of entries within a position means nothing; a cache returns them by ascending id.
    """

    counts: np.ndarray  # int32 [n], entries kept at each position
    ids: np.ndarray  # int32 [sum(counts)], distinct within a position
    logprobs: np.ndarray  # float32 [sum(counts)], over the full vocabulary at temperature 1
    tail_logprobs: np.ndarray  # float32 [n, num_temperatures], log mass outside the kept entries

    def pad(self, max_entries: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids int32 and logprobs float32, both [n, max_entries]; padding is id 0 at -inf.

        Args:
          max_entries: Width of the result; `CacheReader.max_entries` fits every record of a cache.

        Raises:
          ValueError: If a position holds more entries: dropping one would falsify the tail.
        """
        widest = int(self.counts.max(initial=0))
        if widest > max_entries:
            raise ValueError(
                f"max_entries={max_entries} is less than the {widest} entries of a position; "
                "use at least CacheReader.max_entries."
            )
        shape = (len(self.counts), max_entries)
        if len(self.ids) == shape[0] * shape[1]:  # no padding needed
            return self.ids.reshape(shape), self.logprobs.reshape(shape)
        ids = np.zeros(shape, np.int32)
        logprobs = np.full(shape, -np.inf, np.float32)
        kept = np.arange(max_entries) < self.counts[:, None]
        ids[kept] = self.ids
        logprobs[kept] = self.logprobs
        return ids, logprobs

    def sorted_by_id(self) -> "SparseTargets":
        """Returns the same targets with the entries of every position by ascending id."""
        rows = np.repeat(np.arange(len(self.counts)), self.counts)
        order = np.argsort(rows << 32 | self.ids)  # several times faster than np.lexsort
        return dataclasses.replace(self, ids=self.ids[order], logprobs=self.logprobs[order])


@dataclasses.dataclass(frozen=True)
class LabelTargets:
    """The teacher's distribution over the label words at the answer position."""

    position: int  # index into the completion
    ids: np.ndarray  # int32 [labels], first token of every label word, in label order
    raw_logprobs: np.ndarray  # float32 [labels], the teacher's own, over the full vocabulary
    logprobs: np.ndarray  # float32 [labels], the target: calibrated, ensembled, over the labels


@dataclasses.dataclass(frozen=True)
class CacheRecord:
    """One training sequence with its targets: n = len(tokens) - completion_start rows."""

    key: bytes  # record_key(...)
    prompt_id: str  # id of the corpus prompt
    kind: str  # perspective or task name, for mixture weights and metrics
    tokens: np.ndarray  # int32 [seq], what the student reads: prompt, then completion
    completion_start: int  # index in tokens of the first completion token
    targets: SparseTargets  # row j is the teacher's distribution for token completion_start + j
    labels: LabelTargets | None  # None where the completion has no answer position


def record_key(
    teacher_fingerprint: str, teacher_tokens: Sequence[int] | np.ndarray, tokens: np.ndarray
) -> bytes:
    """Names a record by its content: equal inputs, and only those, give equal keys on any machine.

    Args:
      teacher_fingerprint: Content hash of the teacher's weights.
      teacher_tokens: What the teacher read; differs from `tokens` under context distillation.
      tokens: What the student reads, prompt and completion.

    Returns:
      A BLAKE2b digest of KEY_BYTES bytes.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES, person=b"teacher-cache")
    fingerprint = teacher_fingerprint.encode()
    parts = [np.asarray(part, "<i4").tobytes() for part in (teacher_tokens, tokens)]
    for part in (fingerprint, *parts):
        digest.update(len(part).to_bytes(8, "little"))  # so that no two splits hash alike
        digest.update(part)
    return digest.digest()
