"""A stage's directory: what it was made from, when it is finished, and when it is refused."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from sentidistill_jax.artifact import (
    SCHEMA_VERSION,
    Artifact,
    ArtifactMismatchError,
    file_fingerprint,
    fingerprint,
    write_json,
)
from sentidistill_jax.workdir import Workdir

MADE_FROM = {"corpus": "abc", "cache": {"top_k": 32, "temperatures": (1.0, 2.0)}, "seed": 0}


def finished(directory: pathlib.Path) -> Artifact:
    artifact = Artifact(directory, MADE_FROM)
    artifact.begin()
    artifact.finish({"records": 3})
    return artifact


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path):
    script = f"""
import pathlib, time
from sentidistill_jax.artifact import Artifact
Artifact(pathlib.Path({str(tmp_path)!r}), {MADE_FROM!r}).begin()
print("begun", flush=True)
time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"begun\n"
        holder = f"process {other.pid} on {socket.gethostname()}"
        artifact = Artifact(tmp_path, MADE_FROM)
        with pytest.raises(BlockingIOError, match=f"is being written by {holder}"):
            artifact.begin()
        other.kill()
    artifact.begin()
    artifact.begin()  # it is this process's own
    artifact.finish({})
    assert {path.name for path in tmp_path.iterdir()} == {"made_from.json", "manifest.json"}


class TestArtifact:
    def test_nothing_is_written_before_it_begins(self, tmp_path):
        artifact = Artifact(tmp_path / "cache", MADE_FROM)
        assert not artifact.finished and not (tmp_path / "cache").exists()

    def test_a_begun_one_is_not_finished_and_goes_on(self, tmp_path):
        Artifact(tmp_path, MADE_FROM).begin()
        again = Artifact(tmp_path, MADE_FROM)
        assert not again.finished
        again.finish({})
        assert Artifact(tmp_path, MADE_FROM).finished

    def test_the_manifest_says_what_and_how_much(self, tmp_path):
        finished(tmp_path)
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["schema_version"] == SCHEMA_VERSION
        assert manifest["counts"] == {"records": 3}
        assert manifest["made_from"]["cache"] == {"top_k": 32, "temperatures": [1.0, 2.0]}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"seed": 1}, r"seed was 0, now 1"),
            ({"cache": {"top_k": 64, "temperatures": (1.0, 2.0)}}, "cache.top_k was 32, now 64"),
            ({"cache": {"top_k": 32}}, r"cache.temperatures was \[1.0, 2.0\], now None"),
            ({"teacher": "new"}, "teacher was None, now 'new'"),
            ({"seed": 1, "corpus": "d"}, "corpus was 'abc', now 'd'; seed was 0, now 1"),
        ],
    )
    def test_other_settings_are_refused_by_name(self, tmp_path, change, message):
        Artifact(tmp_path, MADE_FROM).begin()
        with pytest.raises(ArtifactMismatchError, match=message) as error:
            Artifact(tmp_path, MADE_FROM | change)
        assert "choose another --workdir or remove that directory" in str(error.value)

    def test_refusing_changes_nothing(self, tmp_path):
        finished(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ArtifactMismatchError):
            Artifact(tmp_path, {})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class TestFingerprints:
    def test_order_of_keys_does_not_matter_and_values_do(self):
        assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": [2, None], "a": 1})
        values = [{"a": 1}, {"a": 2}, {"b": 1}, [1], "1", None]
        assert len({fingerprint(value) for value in values}) == len(values)

    def test_they_are_the_same_in_another_process(self):
        program = (
            "from sentidistill_jax.artifact import fingerprint;"
            "print(fingerprint({'a': 'ä', 'b': 1}))"
        )
        environment = os.environ | {"PYTHONHASHSEED": "7"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env=environment,
        )  # fmt: skip
        assert done.stdout.strip() == fingerprint({"a": "ä", "b": 1})

    def test_of_a_file_is_of_its_bytes(self, tmp_path):
        one, two, other = (tmp_path / name for name in ("one", "two", "other"))
        one.write_text("same")
        two.write_text("same")
        other.write_text("not the same")
        assert file_fingerprint(one) == file_fingerprint(two) != file_fingerprint(other)

    def test_of_a_missing_file_is_an_error_that_says_what_to_do(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="not found; run `sentidistill corpus`"):
            file_fingerprint(tmp_path / "prompts.jsonl")


def test_write_json_replaces_as_a_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "folder" / "scores.json"
    write_json(path, {"b": 1, "a": "é"})
    write_json(path, {"a": "é"})
    assert json.loads(path.read_text()) == {"a": "é"}
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


def test_write_json_that_fails_keeps_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("name", ["../../escape", "a/b", "/etc", "..", ".", "", "a\nb", "a\0"])
def test_names_stay_inside_the_working_directory(tmp_path, name):
    workdir = Workdir(tmp_path)
    for folder in (workdir.student, workdir.evaluation, workdir.cache, workdir.prompts):
        with pytest.raises(ValueError, match="must be the name of a folder"):
            folder(name)
    assert workdir.student("an odd (but harmless) näme").parent == tmp_path / "students"


def test_students_are_found_by_name_and_other_models_by_their_own(tmp_path):
    workdir = Workdir(tmp_path)
    (tmp_path / "students" / "both" / "model").mkdir(parents=True)
    assert workdir.model_source("students/both") == str(workdir.student("both") / "model")
    for source in ("smollm2-135m-instruct", "/models/llama"):
        assert workdir.model_source(source) == source
    with pytest.raises(FileNotFoundError, match=r"'students/bth' .* are: students/both"):
        workdir.model_source("students/bth")
