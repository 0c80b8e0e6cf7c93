"""The teach stage in several real processes: the same bytes as in one."""

import json
import math
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import pytest
import teach_process
from helpers import byte_tokenizer, random_model

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt, write_records
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import open_cache, verify
from sentidistill_jax.export import export
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotation
from sentidistill_jax.workdir import Workdir

RECORDS_PER_SHARD = 3


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    mesh = make_mesh({}, jax.devices()[:1])
    export(random_model(mesh, byte_tokenizer(["positive", "negative"])), directory)
    return directory


@pytest.fixture
def asked(tmp_path):
    """Texts, annotations and prompts: labels in words, and free text of which little is kept."""
    workdir = Workdir(tmp_path / "asked")
    texts = [UnlabelledText(f"id{i}", "mine", f"Text number {i}.") for i in range(8)]
    shots = (Demonstration("Bad.", "negative"), Demonstration("Lovely.", "positive"))
    prompts = [
        *(icldist.build_prompt("sentiment", text, shots) for text in texts),
        *(icldist.build_prompt("sentiment", text, ()) for text in texts[:3]),
        Prompt("knowdist", "analyse/target", "id0", "What?", "What?"),
    ]
    logprobs = (math.log(0.9), math.log(0.1))
    annotations = [Annotation("sentiment", text.id, "positive", logprobs) for text in texts]
    write_records(workdir.texts / "train.jsonl", texts, UnlabelledText)
    write_records(workdir.prompts("knowdist") / "prompts.jsonl", prompts, Prompt)
    write_records(workdir.annotations / "annotations.jsonl", annotations, Annotation)
    return workdir.root


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(workdir, model, *, processes: int, devices: int, per_process: bool) -> list:
    port = free_port()
    return [
        subprocess.Popen(
            [
                sys.executable, teach_process.__file__,
                json.dumps(
                    {
                        "workdir": str(workdir), "model": str(model), "devices": devices,
                        "port": port, "process": process, "processes": processes,
                        "per_process": per_process, "records_per_shard": RECORDS_PER_SHARD,
                    }
                ),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]  # fmt: skip


def wait_for(processes: list) -> None:
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error[-2000:]


def files_of(cache: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in sorted(cache.rglob("*")) if path.is_file())
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("per_process", "devices_of_one"),
    [
        (True, 2),  # as many as each of two has
        pytest.param(False, 4, marks=pytest.mark.slow),  # as many as two have together
    ],
)
def test_two_processes_write_the_bytes_of_one(tmp_path, model, asked, per_process, devices_of_one):
    runs = {}
    for processes, devices in [(1, devices_of_one), (2, 2)]:
        workdir = tmp_path / f"by {processes}"
        shutil.copytree(asked, workdir)
        runs[processes] = start(
            workdir, model, processes=processes, devices=devices, per_process=per_process
        )
    for processes in runs.values():
        wait_for(processes)
    one, two = (files_of(tmp_path / f"by {processes}" / "cache") for processes in (1, 2))
    assert len(open_cache(tmp_path / "by 2" / "cache" / "knowdist" / "draft")) == 12
    assert verify(tmp_path / "by 2" / "cache" / "knowdist" / "records").problems == ()
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
