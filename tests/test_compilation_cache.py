"""Where compiled programs are kept, and that the second run of a command compiles none."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax import compilation_cache
from sentidistill_jax.export import export
from sentidistill_jax.sharding import make_mesh

VARIABLES = (
    "SENTIDISTILL_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
)  # fmt: skip
DIRECTORY = "jax_compilation_cache_dir"
SMALLEST = (
    "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes",
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No variable of the user's, a home of our own, and afterwards the session's folder again."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = {name: getattr(jax.config, name) for name in (DIRECTORY, *SMALLEST)}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.compilation_cache.reset_cache()


def folder_of(setting: str = "", **named: bool) -> str | None:
    compilation_cache.configure(setting, **named)
    return getattr(jax.config, DIRECTORY)


def test_the_place_is_the_users_cache_unless_something_is_named(tmp_path, monkeypatch):
    assert folder_of() == str(tmp_path / "home" / ".cache" / "sentidistill_jax" / "xla")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folder_of() == str(tmp_path / "xdg" / "sentidistill_jax" / "xla")
    assert folder_of(str(tmp_path / "mine")) == str(tmp_path / "mine")
    assert folder_of("off") is None
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    assert folder_of("off") == str(tmp_path / "jax")
    monkeypatch.setenv("SENTIDISTILL_COMPILATION_CACHE", str(tmp_path / "ours"))
    assert folder_of("off") == str(tmp_path / "ours")
    monkeypatch.setenv("SENTIDISTILL_COMPILATION_CACHE", "off")
    assert folder_of(str(tmp_path / "mine")) is None


def test_processes_of_a_job_share_a_named_folder_or_none(tmp_path):
    assert folder_of(alone=False) is None
    assert folder_of("gs://bucket/xla", alone=False) == "gs://bucket/xla"
    assert folder_of(str(tmp_path / "shared"), alone=False) == str(tmp_path / "shared")


def test_a_folder_that_cannot_be_written_is_one_sentence_and_no_failure(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert folder_of(str(tmp_path / "file" / "xla")) is None
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "file/xla cannot be written" in message and "SENTIDISTILL_COMPILATION_CACHE" in message


PROGRAM = """
import collections, json, sys, jax
from sentidistill_jax.cli import main
events = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name.split("/")[-1]]))
code = main(json.loads(sys.argv[1]))
print(json.dumps([code, events["compile_requests_use_cache"], events["cache_hits"]]))
"""


def test_the_second_run_of_a_command_compiles_nothing(tmp_path):
    model, cache = tmp_path / "model", tmp_path / "xla"
    mesh = make_mesh({}, jax.devices()[:1])
    export(random_model(mesh, byte_tokenizer(["positive", "negative"])), model)
    arguments = ["predict", f"--model={model}", "--text=Fine.", f"--workdir={tmp_path}"]
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
            env=os.environ | {"SENTIDISTILL_COMPILATION_CACHE": str(cache)},
            cwd=pathlib.Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append(done.stdout.splitlines())
    (first_label, first), (second_label, second) = runs
    code, programs, hits = json.loads(first)
    assert code == 0 and programs > hits
    assert json.loads(second) == [0, programs, programs]
    assert json.loads(second_label) == json.loads(first_label)
