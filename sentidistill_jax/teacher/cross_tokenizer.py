"""Cross-tokenizer distillation: whether a teacher and its student read the same tokens.

Found without the weights of either.
"""

import dataclasses
import pathlib
from typing import Any

from transformers import PreTrainedTokenizerBase

from sentidistill_jax.models.embedded import EMBEDDED
from sentidistill_jax.models.load import load_config, load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.models.trimmed_vocabulary import TrimmedVocabulary


@dataclasses.dataclass(frozen=True)
class CrossTokenizerStudent:
    """A student whose tokens are not the teacher's, so that it learns from text and labels."""

    tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    vocabularies: dict[str, Any]  # what a manifest says of both


def cross_tokenizer_student(
    student: str, path: str, teacher: str, *, alpha: float, needs_distributions: bool
) -> CrossTokenizerStudent | None:
    """The student of a loaded teacher if it reads other tokens, None if it reads the same.

    A student that is not there yet is not looked at; `train` finds it out.

    Args:
      student: `student.source` as it is named.
      path: Where that is.
      teacher: `teacher.source`.
      alpha: `objective.alpha`, for the message.
      needs_distributions: Whether the objective compares distributions over tokens.

    Raises:
      ValueError: If the tokens differ and the objective needs distributions, or the student has but
        a part of its own.
    """
    if path == teacher or (path not in EMBEDDED and not pathlib.Path(path).exists()):
        return None
    tokenizer = load_tokenizer(path)
    trimmed = TrimmedVocabulary.load(pathlib.Path(path))
    own = tokenizer_fingerprint(tokenizer) if trimmed is None else trimmed.source_tokenizer
    others = tokenizer_fingerprint(load_tokenizer(teacher))
    if own == others:
        return None
    size = load_config(path).vocab_size if trimmed is None else trimmed.source_vocab_size
    teacher_size = load_config(teacher).vocab_size
    if needs_distributions:
        raise ValueError(
            f"student.source={student!r} reads a vocabulary of {size:,} tokens and"
            f" teacher.source={teacher!r} another, of {teacher_size:,}, so there is no divergence"
            f" between distributions over them, and objective.alpha={alpha} needs one; set"
            " --config.objective.alpha=0 and no alpha_schedule to learn the teacher's text and"
            " labels, or set student.source to the teacher, of which a student is cut"
            " (docs/students.md)."
        )
    refuse_trimmed(student, path)
    vocabularies = {
        "student": {"source": student, "tokenizer": own, "size": size},
        "teacher": {"source": teacher, "tokenizer": others, "size": teacher_size},
    }
    return CrossTokenizerStudent(tokenizer, size, vocabularies)


def refuse_trimmed(student: str, path: str) -> None:
    """Refuses a trimmed student where answers are put into the student's own tokens.

    Raises:
      ValueError: If the vocabulary of the student at `path` is trimmed.
    """
    if TrimmedVocabulary.load(pathlib.Path(path)):
        raise ValueError(
            f"student.source={student!r} has a trimmed vocabulary, and answers are kept in the"
            " tokens that it was trimmed from; set student.source to the model with all of them"
            " while teaching."
        )
