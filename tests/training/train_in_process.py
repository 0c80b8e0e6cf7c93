"""Trains in a process of its own, and may send itself a signal: what resuming is tested with."""

import argparse
import json
import os
import pathlib
import signal

import numpy as np
from ml_collections import ConfigDict
from tiny_run import train

from sentidistill_jax.errors import Interrupted
from sentidistill_jax.training import train as train_module


def sequences_of(batch):
    """The packed sequences in this process's rows, as lists."""
    for tokens, segments in zip(
        batch.tokens.addressable_shards, batch.segment_ids.addressable_shards, strict=True
    ):
        for row, ids in zip(np.asarray(tokens.data), np.asarray(segments.data), strict=True):
            yield from (row[ids == segment].tolist() for segment in range(1, ids.max() + 1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("cache", type=pathlib.Path)
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("--signal", default="")
    parser.add_argument("--before-step", type=int, default=0)
    options = parser.parse_args()
    options.workdir.parent.mkdir(exist_ok=True)
    iterate = train_module.iterate
    seen = options.workdir.with_name(f"seen-{os.getpid()}.jsonl").open("w")

    def watched(batches, mesh, *, start_step):
        """Records what the loop is given, and sends the signal before the step asked for."""
        for step, batch in enumerate(iterate(batches, mesh, start_step=start_step), start_step + 1):
            if step == options.before_step:
                os.kill(os.getpid(), signal.Signals[options.signal])
            seen.write(json.dumps([step, list(sequences_of(batch))]) + "\n")
            seen.flush()
            yield batch

    train_module.iterate = watched
    try:
        train(ConfigDict(json.loads(options.config.read_text())), [options.cache], options.workdir)
    except Interrupted as error:
        print(error)


if __name__ == "__main__":
    main()
