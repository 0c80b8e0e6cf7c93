"""What the embedded teacher writes about texts of this repository, for benchmarks of its cache.

The texts are the demonstrations of the KnowDist perspectives, each seen from all perspectives that
do not show it to the teacher already: no download is needed, and runs are alike everywhere.
"""

import pathlib
from typing import Any

import jax

from sentidistill_jax.corpus import knowdist
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import CacheManifest
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.load import load_model
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.answers import CaptureJob
from sentidistill_jax.teacher.capture import capture
from sentidistill_jax.teacher.local_answers import LocalAnswers

TEACHER = "smollm2-135m-instruct"
SAMPLING = SamplingConfig(temperature=0.0, max_new_tokens=32)  # as in configs/base.py
_EXAMPLES = [one for perspective in PERSPECTIVES.values() for one in perspective.examples]


def load_teacher(tokens_per_batch: int = 2048) -> LocalModel:
    """The embedded teacher in float32 on all devices."""
    mesh = make_mesh({"data": -1})
    loaded = load_model(TEACHER, mesh, dtype=jax.numpy.float32)
    return LocalModel.on_mesh(loaded, mesh, tokens_per_batch=tokens_per_batch)


def prompts(count: int) -> list[Prompt]:
    """Free-text prompts, perspective by perspective; about 2,800 exist."""
    every = []
    for name, perspective in PERSPECTIVES.items():
        shown = {one.text for one in perspective.examples}
        for index, one in enumerate(_EXAMPLES):
            if one.text not in shown:
                text = UnlabelledText(f"example-{index}", "repository", one.text)
                every.append(knowdist.build_prompt(name, text, verdict=one.verdict))
    # Evenly spaced, so that a few prompts see all perspectives too.
    return [every[round(i * (len(every) - 1) / max(count - 1, 1))] for i in range(count)]


def manifest_of(model: LocalModel, num_prompts: int, **cache: Any) -> CacheManifest:
    """Of a cache of the first prompts."""
    fields: dict[str, Any] = {
        "teacher_fingerprint": model.loaded.fingerprint,
        "tokenizer_fingerprint": "benchmark",
        "chat_template_fingerprint": "benchmark",
        "corpus_fingerprint": "benchmark",
        "vocab_size": model.engine.config.vocab_size,
        "top_k": 64,
        "mode": "top_k",
        "temperatures": (1.0,),
        "codec": "small",
        "num_prompts": num_prompts,
        "records_per_shard": 64,
        "config": {"teacher": {"source": TEACHER}},
    }
    return CacheManifest(**fields | cache)


def answers_of(model: LocalModel, manifest: CacheManifest) -> LocalAnswers:
    """That teacher, as a capture asks it."""
    texts = {f"example-{index}": one.text for index, one in enumerate(_EXAMPLES)}
    job = CaptureJob(texts, annotations={}, sampling=SAMPLING, seed=0)
    return LocalAnswers(model, job, manifest)


def capture_teacher_text(directory: pathlib.Path, num_prompts: int) -> pathlib.Path:
    """A cache of the teacher's own answers with 64 entries a position, bit exact."""
    model = load_teacher()
    manifest = manifest_of(model, num_prompts, codec="fast")
    capture(answers_of(model, manifest), prompts(num_prompts), directory, manifest)
    return directory
