"""What a teacher is asked and what it answers: fixed or in its own words."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import CacheRecord
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.inference.tokens import encode, label_ids
from sentidistill_jax.teacher.annotate import Annotation

# Probability of a computed answer in the label target; the rest is shared by the other labels.
_COMPUTED_ANSWER_MASS = 0.98

# (task, text id) -> the teacher's calibrated opinion.
Annotations = Mapping[tuple[str, str], Annotation]


@dataclasses.dataclass(frozen=True)
class CapturedAnswer:
    """An answer to one prompt, before it is known whether it is worth learning."""

    num_tokens: int  # of the completion, as far as a device has just worked on it
    outcome: Callable[[], CacheRecord | str]  # its record, or the reason why there is none


@dataclasses.dataclass(frozen=True)
class FixedAnswer:
    """A completion that is known before the teacher reads it."""

    tokens: np.ndarray  # int32 [completion]
    position: int  # of the label word in it; -1 without label words
    label_ids: np.ndarray  # int32 [labels]
    label_logprobs: np.ndarray  # float32 [labels], the target


def is_free(prompt: Prompt) -> bool:
    """Whether the teacher writes the answer itself."""
    return not prompt.label_words and prompt.answer is None


@dataclasses.dataclass(frozen=True)
class CaptureJob:
    """Everything but the prompts that decides what a teacher is asked and what is kept of it."""

    texts: Mapping[str, str]  # text id -> text that prompts are about
    annotations: Annotations  # for answers made of label words
    sampling: SamplingConfig  # how the teacher writes answers of its own
    seed: int  # for the sampling
    tolerated: frozenset[str] = frozenset()  # faults for which an answer is kept all the same
    score_known: bool = True  # whether the teacher reads prompts whose answer is known

    def budget(self, prompt: Prompt) -> int:
        """Most tokens of an answer of the teacher's own."""
        return prompt.max_new_tokens or self.sampling.max_new_tokens

    def needs_no_teacher(self, prompt: Prompt) -> bool:
        """Whether all that is to be kept of an answer is known before the teacher reads it."""
        return not is_free(prompt) and (not self.score_known or self._is_annotated(prompt))

    def _is_annotated(self, prompt: Prompt) -> bool:
        """Whether annotation has put this very question: bare, with the labels themselves."""
        asked = tuple(word.strip() for word in prompt.label_words)
        return (
            (prompt.kind, prompt.text_id) in self.annotations
            and prompt.format == "plain"
            and prompt.teacher_prompt == prompt.prompt
            and "\n\n" not in prompt.prompt
            and asked == icldist.TASKS[prompt.kind].labels
        )

    def fixed_answer(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> FixedAnswer:
        """The completion of a prompt with label words or a computed answer, up to its newline.

        Raises:
          ValueError: If the answer is the teacher's label of a text that was not annotated.
        """
        newline = encode(tokenizer, "\n")
        if not prompt.label_words:
            assert prompt.answer is not None
            tokens = encode(tokenizer, prompt.answer)
            none = np.zeros((0,))
            return FixedAnswer(np.concatenate([tokens, newline]), -1, none, none)
        ids = label_ids(tokenizer, prompt.label_words)
        if prompt.answer is not None:
            words = [
                f"{prompt.answer_prefix}{word}{prompt.answer_suffix}" for word in prompt.label_words
            ]
            label = words.index(prompt.answer)
            others = (1 - _COMPUTED_ANSWER_MASS) / (len(ids) - 1)
            logprobs = np.full((len(ids),), np.log(others), np.float32)
            logprobs[label] = np.log(_COMPUTED_ANSWER_MASS)
        else:
            annotation = self.annotations.get((prompt.kind, prompt.text_id))
            if annotation is None:
                raise ValueError(
                    f"prompt {prompt.id} needs the teacher's label of text {prompt.text_id} in task"
                    f" {prompt.kind!r}, which was not annotated; run the corpus command again."
                )
            logprobs = np.asarray(annotation.logprobs, np.float32)
            label = icldist.TASKS[prompt.kind].labels.index(annotation.label)
        prefix = encode(tokenizer, prompt.answer_prefix)
        word = encode(tokenizer, prompt.label_words[label])
        suffix = encode(tokenizer, prompt.answer_suffix)
        tokens = np.concatenate([prefix, word, suffix, newline])
        return FixedAnswer(tokens, len(prefix), ids, logprobs)
