"""A working directory whose sweeps take seconds: a tiny model, a cache of a few sequences."""

import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
from helpers import byte_tokenizer, random_cache, random_model

from configs import base
from sentidistill_jax.artifact import fingerprint, write_json
from sentidistill_jax.corpus.records import write_records
from sentidistill_jax.corpus.user_texts import UserText
from sentidistill_jax.export import export
from sentidistill_jax.models.load import tokenizer_fingerprint
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.workdir import Workdir

ROOT = pathlib.Path(__file__).parents[2]


_CONFIG = """
from configs import base

def get_config(arguments=""):
    config = base.get_config(arguments)
    config.teacher.update(source={model!r}, dtype="float32")
    config.student.update(source={model!r}, layers=(), dtype="float32")
    config.data.update(global_batch_size=1, seq_length=8, scored_length=4, epochs=2)
    config.optimizer.update(warmup_fraction=0.0, schedule="constant", frozen=())
    config.checkpoint.update(interval=2, keep=1)
    config.evaluation.update(calibration_texts=0, sentibench_examples=-1)
    config.peak_tflops = 1.0
    return config
"""


def write_workdir(root: pathlib.Path) -> pathlib.Path:
    """Returns the config file of all trials; the working directory is `root/run`."""
    workdir, tokenizer = Workdir(root / "run"), byte_tokenizer(["positive", "negative"])
    model = root / "tiny"
    export(random_model(make_mesh({}, jax.devices()[:1]), tokenizer), model)
    cache = workdir.cache("knowdist")
    random_cache(
        cache / "records",
        [(4, 4)] * 4,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        chat_template_fingerprint=fingerprint(tokenizer.chat_template),
        config={"teacher": {"source": str(model)}},
    )
    settings: Any = base.get_config()
    made_from = {"generation": settings.generation.to_dict(), "cache": settings.cache.to_dict()}
    write_json(cache / "manifest.json", {"counts": 4, "made_from": made_from})
    texts = [
        UserText(f"out{i}", "movie", f"Text {i}.", "held_out", label)
        for i, label in enumerate(("positive", "negative") * 2)
    ]
    write_records(workdir.texts / "held_out.jsonl", texts, UserText)
    config = root / "tiny.py"
    config.write_text(_CONFIG.format(model=str(model)))
    return config


def start(
    config: pathlib.Path, space: pathlib.Path, *flags: str, name: str = "tiny"
) -> subprocess.Popen:
    """The controller in a process of its own."""
    command = [
        *(sys.executable, "-m", "sentidistill_jax.cli", "sweep", f"--config={config}"),
        *(f"--space={space}", f"--workdir={config.parent / 'run'}", f"--name={name}", *flags),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("SENTIBENCH_DIR", None)
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
