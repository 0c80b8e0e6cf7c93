"""Stage `demo`: every stage in order, each skipped where it is finished."""

import functools
import time

from sentidistill_jax.settings import Config
from sentidistill_jax.stages import corpus, evaluate
from sentidistill_jax.stages.report import report
from sentidistill_jax.stages.students import take_whole, train_student
from sentidistill_jax.stages.teach import teach
from sentidistill_jax.stages.teacher import Teacher
from sentidistill_jax.workdir import Workdir


def demo(config: Config, workdir: Workdir) -> None:
    """Runs the story of configs/demo.py and prints its table.

    Args:
      config: Holds one ordinary config for each run: `knowdist`, `icldist_only`, `both`.
      workdir: Gets all artifacts.
    """
    started = time.monotonic()
    first = config.knowdist
    loaded = functools.cache(lambda: Teacher.load(first))

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {what}", flush=True)

    say("user texts")
    corpus.prepare_texts(first, workdir)
    say("the teacher labels them")
    corpus.annotate(first, workdir, loaded)
    say("the teacher on held-out texts, raw and calibrated")
    evaluate.evaluate_teacher(first, workdir, loaded)
    for stage in (config.knowdist, config.icldist_only):
        say(f"{stage.stage}: prompts, the teacher's answers and its cache")
        corpus.build_prompts(stage, workdir)
        teach(stage, workdir, loaded)
    loaded.cache_clear()  # the students need the memory
    say("the student before training")
    evaluate.evaluate_student("student-before", first, workdir)
    for run in (config.knowdist, config.icldist_only, config.both):
        say(f"training {run.name}")
        train_student(run, workdir)
        trained = run.copy_and_resolve_references()
        take_whole(trained.student, f"students/{run.name}")
        evaluate.evaluate_student(f"student-{run.name}", trained, workdir)
    output = workdir.root / "report"
    table = report([workdir.root], output, reference="student-before")
    say("done")
    print(f"\n{table}\n\nall of it: {output}/report.html; try\n")
    print(f"  sentidistill predict --workdir={workdir.root} --model=students/{config.both.name}"
          ' --text="A quiet treasure."')  # fmt: skip
