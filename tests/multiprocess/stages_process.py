# ruff: noqa: E402 (the package that is tested lies beside the tests)
"""One of several processes that run the stages together: a program for tests."""

import json
import os
import pathlib
import runpy
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import jax
from ml_collections import ConfigDict

from sentidistill_jax.settings import Config
from sentidistill_jax.stages import corpus
from sentidistill_jax.stages.evaluate import evaluate_student, evaluate_teacher
from sentidistill_jax.stages.teach import teach
from sentidistill_jax.workdir import Workdir


def main(
    folder: str, model: str, *, sentibench: str, port: int, process: int, processes: int,
    records_per_shard: int,
) -> None:  # fmt: skip
    """Caches under `each` and `one`, whose prompts are there; all other stages under `run`."""
    jax.config.update("jax_num_cpu_devices", 4 // processes)
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", num_processes=processes, process_id=process)
    written = watch_writes(folder)
    config = config_of(model, sentibench)
    config.cache.update(top_k=8, records_per_shard=records_per_shard)
    local_devices = jax.local_devices
    if processes == 1:  # a teacher of its own has as many as that of each of two processes
        jax.local_devices = lambda: local_devices()[:2]
    for name, config.teacher.per_process in (("each", True), ("one", False)):
        teach(config, Workdir(pathlib.Path(folder, name)))
    written.clear()  # the caches, which all write
    workdir = Workdir(pathlib.Path(folder, "run"))
    corpus.prepare_texts(config, workdir)
    corpus.annotate(config, workdir)
    corpus.build_prompts(config, workdir)
    evaluate_teacher(config, workdir)
    evaluate_student("student", config, workdir)
    pathlib.Path(f"{folder}-written-by-{process}").write_text("\n".join(written))


def config_of(model: str, sentibench: str) -> Config:
    config: Any = runpy.run_path(str(ROOT / "configs" / "base.py"))["get_config"]()
    config.mesh.update(data=-1, fsdp=1, tensor=1)
    config.texts.update(sources=(f"{model}/texts.txt",), sentibench_dir=sentibench)
    config.teacher.update(source=model, dtype="float32", tokens_per_batch=512)
    config.annotate.tasks = ConfigDict({"sentiment": 0}, convert_dict=False)
    config.annotate.update(k_shot=1, draws=1)
    config.generation.update(temperature=1.0, max_new_tokens=4)
    config.student.update(source=model, layers=(), dtype="float32")
    config.evaluation.sentibench_examples = 3
    config.evaluation.sentibench.update(
        datasets=("sc/twitter", "absa/acsa_rest16"), k_shot=0, max_new_tokens=4
    )
    config.evaluation.max_num_seqs = 4
    return config


def watch_writes(folder: str) -> list[str]:
    """Names of the files under a folder that this process opens to write to, as they come."""
    written: list[str] = []

    def hook(event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[0], str | os.PathLike):
            path, flags = os.fspath(args[0]), args[2]
            if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(folder):
                written.append(str(path)[len(folder) :])

    sys.addaudithook(hook)
    return written


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
