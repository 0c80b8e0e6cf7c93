"""Arguments of a config file, written after a colon: `--config=configs/demo.py:NAME,NAME`."""

from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

SMOKE = "smoke"  # what every config takes


def parse(arguments: str, others: Collection[str] = ()) -> list[str]:
    """The names in `NAME,NAME`.

    Args:
      arguments: What follows the colon; "" for nothing.
      others: Names that this config takes beside `smoke`.

    Raises:
      ValueError: Names an argument that is not known, and those that are.
    """
    names = [name for name in arguments.split(",") if name]
    for name in names:
        if name not in (SMOKE, *others):
            known = ", ".join((SMOKE, *others))
            raise ValueError(f"the config takes no argument {name!r}; it takes {known}.")
    return names


def shrink(config: Any) -> None:
    """What `smoke` does: the same stages with the same kind of teacher, in seconds each.

    Sixteen film reviews, one perspective, one task, one draw of demonstrations, and a student of
    the teacher's first two layers. It shows that everything runs; the scores mean nothing.
    """
    config.texts.sources = ("movie",)
    config.texts.max_per_source = _open(movie=16)
    config.teacher.dtype = "float32"  # bfloat16 is slow on a CPU without units for it
    config.annotate.tasks = _open(sentiment=0)
    config.annotate.draws, config.annotate.k_shot = 1, 2
    config.knowdist.max_texts = 4
    config.knowdist.perspectives = _open(**{"analyse/polarity": 1.0})
    config.generation.max_new_tokens = 24
    config.cache.top_k, config.cache.records_per_shard = 8, 3
    config.icldist.tasks = _open(sentiment=1.0)
    config.icldist.num_prompts, config.icldist.bare_fraction, config.icldist.draws = 8, 0.5, 1
    config.icldist.teacher_shots = (4,)
    config.icldist.max_labels = 0
    if not config.student.source.startswith("students/"):
        config.student.layers, config.student.num_layers = (0, 1), 0
    config.student.refit_sequences = min(config.student.refit_sequences, 8)
    config.student.dtype = "float32"
    config.optimizer.frozen = ("embedding",)
    config.data.global_batch_size, config.data.micro_batches = 1, 1
    config.data.epochs = 4 if config.data.epochs else 0  # an untrained student stays one
    config.data.seq_length, config.data.scored_length = 256, 96
    config.log_interval = 1
    config.evaluation.max_examples = _open(reviews=16)
    config.evaluation.calibration_texts = 16
    config.evaluation.sentibench_examples = -1


def _open(**entries: Any) -> ConfigDict:
    """A section whose keys are data: setting it replaces all of them."""
    return ConfigDict(entries, convert_dict=False)
