"""One of several processes that run the teach stage together: a program for tests."""

import json
import pathlib
import runpy
import sys

import jax

from sentidistill_jax.stages.teacher import Teacher, teach
from sentidistill_jax.workdir import Workdir

ROOT = pathlib.Path(__file__).parents[2]


def main(
    workdir: str, model: str, *, devices: int, port: int, process: int, processes: int,
    per_process: bool, records_per_shard: int,
) -> None:  # fmt: skip
    jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", num_processes=processes, process_id=process)
    config = runpy.run_path(str(ROOT / "configs" / "base.py"))["get_config"]()
    config.teacher.update(
        source=model, dtype="float32", tokens_per_batch=512, per_process=per_process
    )
    config.generation.update(temperature=1.0, max_new_tokens=4)
    config.cache.update(top_k=8, records_per_shard=records_per_shard)
    teach(config, Workdir(pathlib.Path(workdir)), lambda: Teacher.load(config))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
