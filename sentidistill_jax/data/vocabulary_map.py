"""Cache records for a student that has only some of the teacher's tokens."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from sentidistill_jax.data.teacher_cache import CacheReader, CacheRecord
from sentidistill_jax.data.teacher_cache.selection import drop_entries


def to_student(
    record: CacheRecord, new_ids: Int[np.ndarray, " vocab"], temperatures: Sequence[float]
) -> CacheRecord:
    """A record in the student's ids.

    Entries of the teacher's distribution that the student has no token for leave their mass to the
    tail, at every temperature.

    Args:
      record: In the teacher's ids; every one of its tokens has an id of the student.
      new_ids: The student's id of each of the teacher's, int32; -1 where it has none.
      temperatures: Of the columns of the record's tail.
    """
    keep = new_ids[record.targets.ids] >= 0
    targets = record.targets if keep.all() else drop_entries(record.targets, keep, temperatures)
    labels = record.labels
    return dataclasses.replace(
        record,
        tokens=new_ids[record.tokens],
        targets=dataclasses.replace(targets, ids=new_ids[targets.ids]),
        labels=labels and dataclasses.replace(labels, ids=new_ids[labels.ids]),
    )


def token_counts(
    readers: Sequence[CacheReader], vocab_size: int
) -> tuple[Int[np.ndarray, " vocab"], Float[np.ndarray, " vocab"]]:
    """How often each token occurs in caches, and how often the teacher expected it.

    Args:
      readers: Every record of them is read.
      vocab_size: Ids are below it.

    Returns:
      Occurrences in sequences and as first tokens of label words, int64; and the probabilities of
      all kept entries added up, float64.
    """
    occurrences = np.zeros((vocab_size,), np.int64)
    expected = np.zeros((vocab_size,), np.float64)
    for reader in readers:
        for record in reader:
            np.add.at(occurrences, record.tokens, 1)
            if record.labels is not None:
                np.add.at(occurrences, record.labels.ids, 1)
            np.add.at(expected, record.targets.ids, np.exp(record.targets.logprobs))
    return occurrences, expected


def check_tokens(readers: Sequence[CacheReader], new_ids: Int[np.ndarray, " vocab"]) -> None:
    """Refuses caches with a token that the student lacks.

    Raises:
      ValueError: Says how many there are.
    """
    occurrences, _ = token_counts(readers, len(new_ids))
    lacking = int(np.count_nonzero(occurrences[new_ids < 0]))
    if lacking:
        raise ValueError(
            f"the caches hold {lacking} tokens that the student's trimmed vocabulary lacks; name"
            " all stages that it will learn from in student.caches when it is made."
        )
