"""Wrong values are one sentence before anything runs; those of the recipes are right."""

import math
import pathlib
import random
import sys
from typing import Any

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags
from test_configs import FILES, load

from configs import base
from sentidistill_jax.cli import main
from sentidistill_jax.config_values import RULES, check_values

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)  # main() replaces it
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)


def leaves(config: Any, prefix: str = "") -> list[str]:
    names = []
    for name, value in config.items():
        is_section = isinstance(value, ConfigDict) and len(value)
        names += leaves(value, f"{prefix}{name}.") if is_section else [prefix + name]
    return names


@pytest.mark.parametrize("arguments", ["", "smoke"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_passes(path, arguments):
    check_values(load(path, arguments).to_dict())


def test_rules_are_of_fields_that_there_are():
    config: Any = base.get_config()
    for name in RULES:
        value = config
        for part in name.split("."):
            assert part in value, name
            value = value[part]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer.learning_rate", "-0.5", "optimizer.learning_rate=-0.5 must be a finite number"),
        ("optimizer.learning_rate", "nan", "learning_rate=nan must be a finite number"),
        ("optimizer.weight_decay", "-1.0", "weight_decay=-1.0 must be a finite number of at"),
        ("optimizer.warmup_fraction", "-inf", "warmup_fraction=-inf must be a number of at least"),
        ("optimizer.final_fraction", "10.0", "final_fraction=10.0 must be a number between 0 and"),
        ("optimizer.frozen", "(0,)", "optimizer.frozen=(0,) must be a tuple"),
        ("optimizer.frozen", "('(',)", "each a regular expression"),
        ("lora.scale", "nan", "lora.scale=nan must be a finite number"),
        ("lora.targets", "([],)", "lora.targets=([],) must be a tuple"),
        ("student.layers", "([],)", "student.layers=([],) must be a tuple"),
        ("student.layer_choice", "abc", "layer_choice='abc' must be one of 'first', 'even'"),
        ("objective.alpha_schedule", "(7.0,)", "alpha_schedule=(7.0,) must be a tuple of 0 or"),
        ("objective.temperature_schedule", "((0.5,),)", "each a pair of a fraction of the run and"),
        (
            "checkpoint.keep",
            "1000000000000000000000",
            "checkpoint.keep=1000000000000000000000 must",
        ),
        (
            "mesh.fsdp",
            "1000000000000000000000",
            "mesh.fsdp=1000000000000000000000 must be a number",
        ),
        ("mesh.data", "0", "mesh.data=0 must be a number of devices from 1 to 1048576, or -1"),
        ("cache.temperatures", "(1.0,-1.0)", "cache.temperatures=(1.0, -1.0) must be a tuple"),
        ("evaluation.sentibench.seeds", "('a',)", "sentibench.seeds=('a',) must be a tuple of 1"),
        ("name", "", "name='' must be a name"),
    ],
)
def test_what_means_nothing_is_one_sentence(tmp_path, capsys, field, value, message):
    workdir = tmp_path / "run"
    flag = f"--config.{field}={value}"
    assert main(["train", "--config=configs/knowdist.py", flag, f"--workdir={workdir}"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not workdir.exists()


WRONG = (
    "nan", "inf", "-inf", "-1", "-0.5", "1e21", "1" * 400, "-7", "abc", "", "\x00", "../../escape",
    "()", "(1,)", "((1,),)", "([[]],)", "('a', 0.5)", "{}", "{'a': nan}", "None", "True", "7.0",
    "((0.5, -1.0),)", "((2.0, 0.5), (1.0, 0.5))", "(('a', 'b'),)", "lambda: 0",
)  # fmt: skip


def test_random_wrong_values_of_random_fields_are_refused_or_mean_something(monkeypatch):
    """Some are right for some fields; none is a traceback, and every number is finite."""
    rng = random.Random(0)
    names = leaves(base.get_config())
    refused = 0
    for _ in range(400):
        field, value = rng.choice(names), rng.choice(WRONG)
        values = flags.FlagValues()
        # ml_collections looks for fields in sys.argv, whoever called.
        monkeypatch.setattr("sys.argv", ["test", f"--config.{field}={value}"])
        try:
            config_flags.DEFINE_config_file("config", "configs/base.py", flag_values=values)
            values(sys.argv)
            config = values.config.to_dict()
            check_values(config)
        except (flags.Error, OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            refused += 1  # what `main` makes one sentence of
            assert str(error)
            continue
        kept: Any = config
        for part in field.split("."):
            kept = kept[part]
        if isinstance(kept, float):
            assert math.isfinite(kept)
    assert refused > 300
