"""Stored scores read back: which sets are a benchmark's, and what is known of a model."""

import pathlib

from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.reporting.runs import ModelScores, Score, find_task, read_scores

from .write_run import write_model

SST2 = "sentibench/sc/sst2"


def scored(**scores) -> ModelScores:
    return ModelScores("one", "run", pathlib.Path(), scores, (SENTIBENCH,))


def test_a_set_is_a_benchmarks_by_its_whole_name():
    assert find_task([SENTIBENCH], SST2) == (SENTIBENCH, SENTIBENCH.tasks["sc/sst2"])
    for name in ("sc/sst2", "held_out/sc/sst2", "sentibench/sst2"):
        assert find_task([SENTIBENCH], name) is None


def test_a_model_knows_the_benchmarks_that_it_was_asked(tmp_path):
    entry = {"f1": 0.5, "metric": "macro_f1"}
    write_model(tmp_path, "asked", {SST2: entry})
    write_model(tmp_path, "not", {"held_out/reviews": entry})
    assert {model.name: model.benchmarks for model in read_scores([tmp_path])} == {
        "asked": (SENTIBENCH,),
        "not": (),
    }
    assert all(not model.benchmarks for model in read_scores([tmp_path], {}))


def test_scores_are_in_percent_and_none_where_not_asked():
    variant = {"f1": 0.25, "interval_95": [0.125, 0.5]}
    model = scored(sets={SST2: {"f1": 0.5, "deviation": 0.125, "variants": {"other": variant}}})
    assert model.score(SST2) == Score(50.0, None, 12.5)
    assert model.score(SST2, "other") == Score(25.0, (12.5, 50.0))
    assert model.score(SST2, "another") is None and model.score("held_out/x", "other") is None


def test_means_are_known_only_of_a_whole_benchmark():
    summary = {"complete": True, "average": 0.5, "deviation": 0.25, "categories": {"basic": 0.75}}
    whole, part = (scored(sets={}, sentibench=summary | {"complete": c}) for c in (True, False))
    assert whole.mean(SENTIBENCH, "average") == Score(50.0, deviation=25.0)
    assert whole.mean(SENTIBENCH, "basic") == Score(75.0)
    assert whole.mean(SENTIBENCH, "multifaceted") is None
    assert part.mean(SENTIBENCH, "average") is None and scored().mean(SENTIBENCH, "basic") is None
