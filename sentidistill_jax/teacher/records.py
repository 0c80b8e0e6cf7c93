"""Cache records of answers whose distributions nobody listed: the text, and labels as known.

An answer of label words also has the teacher's opinion of them, which is one of words, in whatever
tokens they are read.
"""

import numpy as np
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import (
    CacheRecord,
    LabelTargets,
    SparseTargets,
    record_key,
)
from sentidistill_jax.inference.tokens import encode, encode_prompt
from sentidistill_jax.teacher.answers import CaptureJob, FixedAnswer

# Outside what is stated: a student's mass there costs, but not infinitely.
_TAIL_MASS = 1e-4

Targets = tuple[SparseTargets, LabelTargets | None]


def written_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> np.ndarray:
    """The tokens of an answer that the teacher wrote itself, with its newline, int32."""
    return np.concatenate([encode(tokenizer, text), encode(tokenizer, "\n")])


def one_hot_targets(
    completion: np.ndarray, answer: FixedAnswer | None, *, num_temperatures: int = 1
) -> Targets:
    """Targets of near certainty: each token itself, and the labels as annotated or computed.

    Args:
      completion: Tokens, int32 [completion].
      answer: The labels at their position, if it has some.
      num_temperatures: Columns of the tail.
    """
    ids = [np.array([token]) for token in completion]
    logprobs = [np.zeros((1,)) for _ in completion]
    if answer is not None and len(answer.label_ids):
        ids[answer.position] = answer.label_ids
        logprobs[answer.position] = answer.label_logprobs
    kept = np.log1p(-_TAIL_MASS)
    targets = SparseTargets(
        counts=np.array([len(row) for row in ids], np.int32),
        ids=np.concatenate(ids).astype(np.int32),
        logprobs=(np.concatenate(logprobs) + kept).astype(np.float32),
        tail_logprobs=np.full((len(ids), num_temperatures), np.log(_TAIL_MASS), np.float32),
    )
    if answer is None or not len(answer.label_ids):
        return targets, None
    raw = (answer.label_logprobs + kept).astype(np.float32)
    return targets, LabelTargets(answer.position, answer.label_ids, raw, answer.label_logprobs)


def with_ending(targets: SparseTargets, ending: SparseTargets) -> SparseTargets:
    """Targets of a completion, and of the tokens that end it in place of the teacher's own end."""
    return SparseTargets(
        np.concatenate([targets.counts, ending.counts]),
        np.concatenate([targets.ids, ending.ids]),
        np.concatenate([targets.logprobs, ending.logprobs]),
        np.concatenate([targets.tail_logprobs, ending.tail_logprobs]),
    )


def make_record(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    completion: np.ndarray,
    targets: Targets,
    teacher_fingerprint: str,
) -> CacheRecord:
    """The record of a prompt and its completion, int32 [completion], in the tokens of a tokenizer.

    The student reads `prompt.prompt`, and the teacher has read `prompt.teacher_prompt`.
    """
    student_prompt = encode_prompt(tokenizer, prompt.prompt)
    teacher_prompt = encode_prompt(tokenizer, prompt.teacher_prompt)
    tokens = np.concatenate([student_prompt, completion]).astype(np.int32)
    return CacheRecord(
        key=record_key(teacher_fingerprint, np.concatenate([teacher_prompt, completion]), tokens),
        prompt_id=prompt.id,
        kind=prompt.kind,
        tokens=tokens,
        completion_start=len(student_prompt),
        targets=targets[0],
        labels=targets[1],
    )


def text_record(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    written: str | None,
    job: CaptureJob,
    teacher_fingerprint: str,
) -> CacheRecord:
    """The record of a prompt in a cache of mode `text`.

    Args:
      tokenizer: The student's.
      prompt: One of the corpus.
      written: What the teacher answered, without a final newline; None where the answer is fixed.
      job: Its annotations are the labels of fixed answers.
      teacher_fingerprint: Hash of its weights.
    """
    answer = None if written is not None else job.fixed_answer(tokenizer, prompt)
    completion = written_tokens(tokenizer, written or "")
    if answer is not None:
        completion = answer.tokens.astype(np.int32)
    return make_record(
        tokenizer, prompt, completion, one_hot_targets(completion, answer), teacher_fingerprint
    )
