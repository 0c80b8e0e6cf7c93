"""Whether teacher and student of a config read the same tokens, found without their weights."""

import pathlib

from sentidistill_jax.models.embedded import EMBEDDED
from sentidistill_jax.models.load import load_config, load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.models.trimmed_vocabulary import TrimmedVocabulary
from sentidistill_jax.settings import Config
from sentidistill_jax.workdir import Workdir


def check_vocabularies(config: Config, workdir: Workdir) -> None:
    """Refuses a loaded teacher whose tokens are not the student's: its cache would teach nobody.

    A student that is not there yet is not looked at; `train` finds it out.

    Raises:
      ValueError: If the tokenizers differ; says what each vocabulary is.
    """
    source = workdir.model_source(config.student.source)
    if source == config.teacher.source:
        return
    if source not in EMBEDDED and not pathlib.Path(source).exists():
        return
    trimmed = TrimmedVocabulary.load(pathlib.Path(source))
    if trimmed is None:
        read, size = tokenizer_fingerprint(load_tokenizer(source)), load_config(source).vocab_size
    else:
        read, size = trimmed.source_tokenizer, trimmed.source_vocab_size
    if read != tokenizer_fingerprint(load_tokenizer(config.teacher.source)):
        teacher_size = load_config(config.teacher.source).vocab_size
        raise ValueError(
            f"student.source={config.student.source!r} reads a vocabulary of {size:,} tokens and"
            f" teacher.source={config.teacher.source!r} another, of {teacher_size:,}, so the"
            " teacher's distributions over tokens mean nothing to it; set student.source to the"
            " teacher, of which a student is cut (docs/students.md), or serve the teacher and set"
            " teacher.endpoint and objective.alpha=0 to learn its text and labels"
            " (docs/endpoints.md)."
        )
