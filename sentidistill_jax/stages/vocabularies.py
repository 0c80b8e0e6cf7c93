"""Whether teacher and student of a config read the same tokens, found without their weights."""

import dataclasses
import pathlib
from typing import Any

from transformers import PreTrainedTokenizerBase

from sentidistill_jax.models.embedded import EMBEDDED
from sentidistill_jax.models.load import load_config, load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.models.trimmed_vocabulary import TrimmedVocabulary
from sentidistill_jax.settings import Config
from sentidistill_jax.training.objectives import make_objective
from sentidistill_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class ForeignStudent:
    """A student whose tokens are not the teacher's, so that it learns from text and labels."""

    tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    vocabularies: dict[str, Any]  # what a manifest says of both


def foreign_student(config: Config, workdir: Workdir) -> ForeignStudent | None:
    """The student of a loaded teacher if it reads other tokens, None if it reads the same.

    A student that is not there yet is not looked at; `train` finds it out.

    Raises:
      ValueError: If the tokens differ and the objective compares distributions over them, or the
        student has but a part of its own.
    """
    source = workdir.model_source(config.student.source)
    if source == config.teacher.source:
        return None
    if source not in EMBEDDED and not pathlib.Path(source).exists():
        return None
    tokenizer = load_tokenizer(source)
    trimmed = TrimmedVocabulary.load(pathlib.Path(source))
    own = tokenizer_fingerprint(tokenizer) if trimmed is None else trimmed.source_tokenizer
    teacher = tokenizer_fingerprint(load_tokenizer(config.teacher.source))
    if own == teacher:
        return None
    size = load_config(source).vocab_size if trimmed is None else trimmed.source_vocab_size
    teacher_size = load_config(config.teacher.source).vocab_size
    if make_objective(config.objective.to_dict()).needs_distributions:
        raise ValueError(
            f"student.source={config.student.source!r} reads a vocabulary of {size:,} tokens and"
            f" teacher.source={config.teacher.source!r} another, of {teacher_size:,}, so there is"
            " no divergence between distributions over them, and objective.alpha="
            f"{config.objective.alpha} needs one; set --config.objective.alpha=0 and no"
            " alpha_schedule to learn the teacher's text and labels, or set student.source to the"
            " teacher, of which a student is cut (docs/students.md)."
        )
    refuse_trimmed(config, workdir)
    of_student = {"source": config.student.source, "tokenizer": own, "size": size}
    of_teacher = {"source": config.teacher.source, "tokenizer": teacher, "size": teacher_size}
    return ForeignStudent(tokenizer, size, {"student": of_student, "teacher": of_teacher})


def refuse_trimmed(config: Config, workdir: Workdir) -> None:
    """Refuses a trimmed student where answers are put into the student's own tokens.

    Raises:
      ValueError: If the vocabulary of `student.source` is trimmed.
    """
    if TrimmedVocabulary.load(pathlib.Path(workdir.model_source(config.student.source))):
        raise ValueError(
            f"student.source={config.student.source!r} has a trimmed vocabulary, and answers are"
            " kept in the tokens that it was trimmed from; set student.source to the model with"
            " all of them while teaching."
        )
