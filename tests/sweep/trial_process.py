"""Stands for a training run: steps that cost nothing, a checkpoint after each, the same signals.

python trial_process.py FOLDER PEAK SECONDS; its score rises to PEAK in ten steps, below 0 it dies.
"""

import json
import os
import pathlib
import signal
import sys
import time

STEPS = 10


def main(folder: pathlib.Path, peak: float, seconds: float) -> int:
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    student = folder / "students" / "one"
    student.mkdir(parents=True, exist_ok=True)
    metrics, checkpoint = student / "metrics.jsonl", student / "checkpoint"
    if peak < 0:
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    step = int(checkpoint.read_text() or 0) if checkpoint.exists() else 0
    if (student / "finished").exists():
        return 0
    while step < STEPS:
        time.sleep(seconds)
        step += 1
        with metrics.open("a") as file:
            line = {"step": step, "train/loss": 1.0, "eval/mean_f1": peak * step / STEPS}
            file.write(json.dumps(line) + "\n")
        checkpoint.with_name("new").write_text(str(step))
        checkpoint.with_name("new").replace(checkpoint)
        if stopped:
            return 75
    with (student / "finished").open("a") as file:
        file.write("once\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), *map(float, sys.argv[2:])))
