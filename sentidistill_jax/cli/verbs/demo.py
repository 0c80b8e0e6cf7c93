"""sentidistill demo: distil the embedded teacher on a laptop and measure what came over.

Texts, the teacher's labels, KnowDist and ICLDist corpora and caches, students that learn one stage,
the other and both, with few labels and with many, one of at most a tenth of its teacher, and
macro-F1 on held-out human-labelled texts, beside that of a linear classifier.
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
    first, started = config.start, time.monotonic()
    teacher = TeacherSettings.from_section(first.teacher.to_dict())
    loaded = functools.cache(lambda: teacher.load_local(first.mesh))

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {what}", flush=True)

    say("user texts")
    corpus.prepare_texts(first, workdir)
    say("the teacher labels them")
    corpus.annotate(first, workdir, loaded)
    say("a linear classifier on these labels, and on human ones")
    evaluate.evaluate_linear(first, workdir)
    say("the teacher on held-out texts, raw and calibrated")
    evaluate.evaluate_teacher(first, workdir, loaded)
    for name in config.corpora:
        say(f"{name}: prompts, the teacher's answers and its cache")
        corpus.measure_difficulty(config[name], workdir)
        corpus.build_prompts(config[name], workdir)
        teach(config[name], workdir, loaded)
    loaded.cache_clear()  # the students need the memory
    for name in config.students:
        run = config[name]
        say(f"training {run.name}" if run.data.epochs else f"cutting {run.name}")
        train_student(run, workdir)
        if name not in config.unscored:
            evaluate.evaluate_student(
                f"student-{run.name}", run, workdir, source=f"students/{run.name}"
            )
    output = workdir.root / "report"
    table = report([workdir.root], output, reference="student-start")
    say("done")
    print(f"\n{table}\n\nall of it: {output}/report.html; try\n")
    print(f"  sentidistill predict --workdir={workdir.root} --model=students/{config.both.name}"
          ' --text="A quiet treasure."')  # fmt: skip


VERB = Verb(_flags, _run)
