"""The method at its published size: a 70B teacher, a Llama-3.2-1B student, 50,000 answers.

`--config=configs/paper.py:knowdist`, then `:icldist`; for each `corpus`, `teach`, `train`. The
teacher runs in this process, over all hosts of a pod, and its distributions are kept:

    --config.teacher.source=DIR --config.student.source=DIR

or behind a server (docs/endpoints.md), where a chat gives text and no distributions:

    --config.teacher.endpoint.base_url=http://HOST:8000/v1
    --config.teacher.endpoint.api=chat --config.objective.alpha=0

Name the user texts with `--config.texts.sources`: the authors' come from Amazon, Yelp, films,
tweets and tweets on politics. What is known of their settings says so below; the paper's own could
not be read in full, and the rest is ours. It was never run at this size: `sentidistill plan` says
what it needs, and `smoke` runs the same stages with the embedded teacher.
"""

from typing import Any

from configs import _arguments, base

_STAGES = ("knowdist", "icldist")


def get_config(arguments: str = ""):
    """One of the two stages, KnowDist if none is named."""
    names = _arguments.parse(arguments, _STAGES)
    config: Any = base.get_config()
    config.mesh.data, config.mesh.fsdp = 1, -1
    config.texts.max_words, config.texts.long_texts = 300, "truncate"
    config.texts.max_per_source = {}
    config.teacher.source = "llama-3.1-70b"
    config.teacher.dtype = "bfloat16"
    config.teacher.per_process = False  # no host holds it alone
    config.annotate.k_shot = 4
    # 50,000 answers, 4 epochs, batches of 128, 5e-5 with a cosine: the training script of the
    # authors' next paper, github.com/HITSZ-HLT/COMPEFFDIST, for a student of 3B.
    config.knowdist.max_texts = 50_000
    config.data.epochs = 4
    config.optimizer.learning_rate = 5e-5
    config.optimizer.schedule = "cosine"
    config.data.global_batch_size = 32  # rows, each of some four answers with their texts
    config.data.seq_length, config.data.scored_length = 1024, 640
    # A strong teacher needs no demonstrations, and answers at length: those of an earlier teacher
    # of the authors have 164 words on average, and 63 % of them have several lines.
    config.knowdist.style = "chat"
    config.generation.temperature, config.generation.top_p = 0.7, 0.95
    config.generation.max_new_tokens = 256
    config.icldist.num_prompts = 20_000
    config.icldist.max_words = 400
    config.cache.top_k = 64
    config.student.source = "llama-3.2-1b"
    config.student.layers = ()
    config.student.dtype = "bfloat16"
    config.student.remat = "dots"
    if "icldist" in names:
        config.stage = "icldist"
        config.name = "both"
        config.student.source = "students/knowdist"
        config.objective.name = "icldist"
        config.objective.label_weight = 1.0
        config.data.epochs = 2
    if _arguments.SMOKE in names:
        config.teacher.source = "smollm2-135m-instruct"
        if config.stage == "knowdist":
            config.student.source = "smollm2-135m-instruct"
        _arguments.shrink(config)
    return config
