"""Every config builds, has the fields of base.py and no others, and is one the stages accept."""

import pathlib
from typing import Any

import jax
import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from sentidistill_jax.corpus.embedded_sources import EMBEDDED_SOURCES
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.embedded import EMBEDDED
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.settings import Config, corpus_name, float_dtype
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages.corpus import check_stage
from sentidistill_jax.teacher.annotate import Annotator
from sentidistill_jax.training.objectives import make_objective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule
from sentidistill_jax.training.throughput import StepProfiler
from sentidistill_jax.training.train import TrainSettings, check_batch_size
from sentidistill_jax.training.trainable import Lora, trainable_filter

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("[!_]*.py"))
_STAGES = ("knowdist", "icldist")


@pytest.fixture(autouse=True)
def configs_import_one_another(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def load(path: pathlib.Path | str, arguments: str = "") -> Config:
    """The config as the command line has it."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    values(["test", f"--config={path}:{arguments}" if arguments else f"--config={path}"])
    return values.config


def runs(path: pathlib.Path, arguments: str = "") -> list[Config]:
    """One ordinary config, or those of the demo."""
    config = load(path, arguments)
    return [config[name] for name in config.students] if path.stem == "demo" else [config]


# Sections whose keys are data: tasks, sources, perspectives.
_OPEN = (
    "texts.max_per_source", "annotate.tasks", "annotate.priors", "knowdist.perspectives",
    "icldist.tasks", "evaluation.max_examples", "data.caches", "data.kind_weights",
    "teacher.endpoint.extra_body",
)  # fmt: skip


def fields(config: Config, prefix: str = "") -> set[str]:
    """Dotted names of all fields, those of open sections left out."""
    names = set()
    for name, value in config.items():
        dotted = prefix + name
        is_section = isinstance(value, ConfigDict) and dotted not in _OPEN
        names |= fields(value, f"{dotted}.") if is_section else {dotted}
    return names


every_config = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
in_both_forms = pytest.mark.parametrize("arguments", ["", "smoke"], ids=["full", "smoke"])


@in_both_forms
@every_config
def test_fields_are_those_of_base(path, arguments):
    for config in runs(path, arguments):
        assert fields(config) == fields(load(ROOT / "configs" / "base.py"))


@in_both_forms
@every_config
def test_a_typo_is_an_error_at_every_level(path, arguments):
    config = load(path, arguments)
    sections = [config, *(value for value in config.values() if isinstance(value, ConfigDict))]
    assert len(sections) > 3
    for section in sections:
        with pytest.raises((AttributeError, KeyError)):
            section.spelling_mistake = 1
        with pytest.raises((AttributeError, KeyError)):
            _ = section.spelling_mistake


@in_both_forms
@every_config
def test_names_in_it_are_known(path, arguments):
    for config in runs(path, arguments):
        check_stage(config)
        assert set(config.texts.sources) <= set(EMBEDDED_SOURCES)
        assert set(config.texts.max_per_source) <= set(EMBEDDED_SOURCES)
        assert set(config.evaluation.max_examples) <= {"reviews", *EMBEDDED_SOURCES}
        assert set(config.knowdist.perspectives) <= set(PERSPECTIVES)
        assert set(config.icldist.tasks) <= set(TASKS)
        assert set(config.annotate.priors) <= set(config.annotate.tasks)
        known = EMBEDDED.keys() | PRESETS.keys()
        assert config.teacher.source in known
        assert config.student.source in known or config.student.source.startswith("students/")


@in_both_forms
@every_config
def test_values_are_accepted(path, arguments):
    for config in runs(path, arguments):
        check_batch_size(TrainSettings.of(config), make_mesh({"data": 1}, jax.devices()[:1]))
        for section in ("teacher", "student"):
            float_dtype(f"{section}.dtype", config[section].dtype)
        SamplingConfig(**config.generation.to_dict())
        objective = make_objective(config.objective.to_dict())
        assert set(objective.temperatures) <= set(config.cache.temperatures)
        for task in config.annotate.tasks:
            nothing: Any = None
            settings = config.annotate
            annotator = Annotator(nothing, task, settings.k_shot, settings.draws)
            annotator.prior(config.annotate.priors.get(task))
        steps = 100
        schedule = make_schedule(
            config.optimizer.schedule,
            peak=config.optimizer.learning_rate,
            warmup_steps=round(config.optimizer.warmup_fraction * steps),
            total_steps=steps,
            final_fraction=config.optimizer.final_fraction,
            decay_steps=round(config.optimizer.decay_fraction * steps),
        )
        make_optimizer(
            config.optimizer.name,
            schedule,
            weight_decay=config.optimizer.weight_decay,
            clip_norm=config.optimizer.clip_norm,
        )
        float_dtype("optimizer.momentum_dtype", config.optimizer.momentum_dtype)
        float_dtype("student.param_dtype", config.student.param_dtype)
        trainable_filter(config.optimizer.frozen)
        Lora(**config.lora.to_dict())
        StepProfiler(config.profile_steps, ROOT / "profile")
        assert set(config.data.caches) <= {"healing", "knowdist", "icldist"}


def test_the_demos_runs_share_what_they_must():
    config = load(ROOT / "configs" / "demo.py")
    for name in config.students:
        for section in ("texts", "teacher", "annotate"):
            assert config[name][section] == config.start[section]
    # They differ in where they start and in nothing else.
    one, other = config.icldist_256.to_dict(), config.both_256.to_dict()
    assert one.pop("name") != other.pop("name")
    starts = [run.pop("student").pop("source") for run in (one, other)]
    assert starts == ["students/start", "students/knowdist"]
    assert one == other
    assert len({config[name].name for name in config.students}) == len(config.students)
    assert {corpus_name(config[name]) for name in config.corpora} == set(
        config.start.student.caches
    )
    assert set(config.unscored) < set(config.students)


def test_the_demo_takes_another_embedded_teacher_and_cuts_its_students_from_it():
    config = load(ROOT / "configs" / "demo.py", "gemma3-270m")
    for name in config.students:
        assert config[name].teacher.source == "gemma3-270m"
    for start in (config.start, config.small_start):
        assert start.student.source == "gemma3-270m"
        assert (start.student.vocabulary, start.student.vocabulary_size) == ("corpus", 0)


@every_config
def test_smoke_asks_little_and_changes_what_is_distilled_not_how(path):
    for full, small in zip(runs(path), runs(path, "smoke"), strict=True):
        assert sum(small.texts.max_per_source.values()) <= 16
        assert small.knowdist.max_texts <= 4 and small.icldist.num_prompts <= 8
        assert small.teacher.source in EMBEDDED
        assert len(small.student.layers) <= 2
        for section in ("mesh", "objective", "lora", "checkpoint", "compilation_cache"):
            assert full[section] == small[section]
        assert (full.stage, full.name) == (small.stage, small.name)


def test_smoke_goes_with_the_name_of_a_teacher():
    for arguments in ("gemma3-270m,smoke", "smoke,gemma3-270m"):
        for run in runs(ROOT / "configs" / "demo.py", arguments):
            assert run.teacher.source == "gemma3-270m"
            assert run.texts.sources == ("movie",)


def test_both_stages_in_small_read_the_same_texts_and_labels():
    first, second = (load(ROOT / "configs" / f"{name}.py", "smoke") for name in _STAGES)
    for section in ("texts", "teacher", "annotate"):
        assert first[section] == second[section]


@every_config
def test_an_unknown_argument_is_an_error_that_lists_the_known_ones(path):
    others = {"demo": list(EMBEDDED), "paper": ["knowdist", "icldist"]}
    known = ", ".join(["smoke", *others.get(path.stem, [])])
    with pytest.raises(flags.Error, match=rf"no argument 'tiny'; it takes {known}\.$"):
        load(path, "tiny")


def test_the_demos_runs_have_one_compilation_cache():
    config = load(ROOT / "configs" / "demo.py")
    config.compilation_cache = "here"
    assert {config[name].compilation_cache for name in config.students} == {"here"}
