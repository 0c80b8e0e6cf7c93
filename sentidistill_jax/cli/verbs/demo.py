"""sentidistill demo: distil the embedded teacher on a laptop and measure what came over.

Texts, the teacher's labels, KnowDist and ICLDist corpora and caches, three students (KnowDist
alone, ICLDist alone, both), and macro-F1 on held-out human-labelled texts before and after.
Interrupt it at any time; the same command goes on where it was.
"""

import functools
import time

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "demo")


def _run(values: flags.FlagValues) -> None:
    """Every stage in order, each skipped where it is finished."""
    from sentidistill_jax.stages import corpus, evaluate
    from sentidistill_jax.stages.report import report
    from sentidistill_jax.stages.teach import teach
    from sentidistill_jax.stages.train import train_student
    from sentidistill_jax.teacher.settings import TeacherSettings

    config, workdir = values.config, common.workdir(values)
    first, started = config.knowdist, time.monotonic()
    teacher = TeacherSettings.from_section(first.teacher.to_dict())
    loaded = functools.cache(lambda: teacher.load_local(first.mesh))

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
        evaluate.evaluate_student(
            f"student-{run.name}", run, workdir, source=f"students/{run.name}"
        )
    output = workdir.root / "report"
    table = report([workdir.root], output, reference="student-before")
    say("done")
    print(f"\n{table}\n\nall of it: {output}/report.html; try\n")
    print(f"  sentidistill predict --workdir={workdir.root} --model=students/{config.both.name}"
          ' --text="A quiet treasure."')  # fmt: skip


VERB = Verb(_flags, _run)
