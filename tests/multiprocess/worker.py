# ruff: noqa: E402 (the number of devices is set before anything else is imported)
"""One process of a job that trains a tiny student; what the command line does, without its files.

python tests/multiprocess/worker.py FOLDER SETTINGS.json [--pace SECONDS] [--hang PROCESS]

With --hang the main thread of that process sleeps for ever after the second step.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import jax

jax.config.update("jax_num_cpu_devices", int(os.environ.get("JAX_NUM_CPU_DEVICES", "1")))

import numpy as np
from helpers import byte_tokenizer, random_model
from ml_collections import ConfigDict

from sentidistill_jax import distributed
from sentidistill_jax.data.loader import PackedBatches
from sentidistill_jax.errors import EXIT_FAILED, EXIT_RESTART, Preempted
from sentidistill_jax.export import export
from sentidistill_jax.metric_writer import MetricWriter
from sentidistill_jax.models import load
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.train import CacheSource, TrainSettings, train


def main() -> int:
    """Trains, and leaves losses, the examples this process read, and the student."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("settings", type=pathlib.Path)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--hang", type=int)
    options = parser.parse_args()
    folder, settings = options.folder, json.loads(options.settings.read_text())
    job = distributed.start()
    tokenizer = byte_tokenizer()
    load.tokenizer_fingerprint = lambda tokenizer: "tokenizer"
    read: list[int] = []
    records = PackedBatches._records

    def remembered(self, indices):
        read.extend(map(int, indices))
        return records(self, indices)

    PackedBatches._records = remembered
    write = MetricWriter.write

    def paced(self, step, scalars):
        time.sleep(options.pace)
        write(self, step, scalars)
        if jax.process_index() == options.hang and step == 2:
            time.sleep(1000)

    MetricWriter.write = paced
    config: Any = ConfigDict(settings)
    mesh = make_mesh(config.mesh)
    try:
        model = train(
            random_model(mesh, tokenizer),
            [CacheSource(folder / "cache")],
            TrainSettings.of(config),
            folder / "run",
            mesh,
        )
        export(model, folder / "student")
        code = 0
    except Preempted as error:
        print(error, file=sys.stderr, flush=True)
        code = EXIT_RESTART
    except Exception as error:
        job.fail(error)
        print(repr(error), file=sys.stderr, flush=True)
        code = EXIT_FAILED
    np.save(folder / f"read-{jax.process_index()}-of-{jax.process_count()}.npy", np.array(read))
    job.close(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
