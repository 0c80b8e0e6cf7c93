"""The tutorials, followed: their files are written, their commands run, with a tiny teacher."""

import dataclasses
import json
import pathlib
import re
import shlex
from collections.abc import Sequence

import jax
import pytest
from helpers import TINY, byte_tokenizer, random_decoder

from sentidistill_jax.cli import main
from sentidistill_jax.corpus.definition_files import load_definitions
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.records import Prompt, read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText
from sentidistill_jax.export import export
from sentidistill_jax.models.load import LoadedModel
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotation

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "tutorials" / "own-data.md").read_text()
FILES = dict(re.findall(r"([\w-]+\.\w+):\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [
    shlex.split(line)
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if not language
]
# A teacher of bytes, and as little as it can be asked.
SMALL = (
    "teacher.dtype=float32", "annotate.draws=1", "icldist.num_prompts=24",
    "icldist.teacher_shots=(1,)", "icldist.student_shots=(0,1)", "generation.max_new_tokens=4",
    "data.seq_length=1024", "data.scored_length=64", "data.epochs=1", "data.global_batch_size=1",
    "evaluation.calibration_texts=4", "icldist.tasks={'urgency':1.0,'sentiment':1.0}",
    "knowdist.perspectives={'analyse/polarity':1.0}", "annotate.tasks={'sentiment':0,'urgency':0}",
)  # fmt: skip


@pytest.fixture
def definitions_of_files():
    yield
    load_definitions((), ())


def teacher_of(tasks: Sequence[str], folder: pathlib.Path) -> None:
    """A tiny model that has a token for each of the tasks' labels."""
    words = [word for task in tasks for words in TASKS[task].verbalizers for word in words]
    long = dataclasses.replace(TINY, max_position=4096)  # prompts of bytes
    decoder = random_decoder(make_mesh({}, jax.devices()[:1]), long)
    export(LoadedModel(decoder, byte_tokenizer([*words, "A", "B"]), "tiny", "tiny"), folder)


def test_every_block_is_a_file_or_a_command():
    assert PAGE.count("```") == 2 * (len(FILES) + 2) and set(FILES) == {
        "reviews.csv", "shop.py", "tasks.toml", "perspectives.toml",
    }  # fmt: skip
    assert [words[:2] for words in COMMANDS[1:]] == [
        ["sentidistill", verb] for verb in ("corpus", "teach", "train", "evaluate")
    ]


@pytest.mark.usefixtures("one_device", "definitions_of_files")
def test_own_data_from_files_to_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    for name, content in FILES.items():
        pathlib.Path(name).write_text(content)
    load_definitions(["tasks.toml"], ())
    teacher_of(("sentiment", "urgency"), tmp_path / "tiny")
    small = [f"--config.{setting}" for setting in SMALL]
    small += [f"--config.{model}.source=tiny" for model in ("teacher", "student")]

    first, *others = (command[1:] for command in COMMANDS)
    alone = [word for word in small if "annotate.tasks" not in word]
    alone += ["--config.annotate.tasks={'sentiment':0}", "--config.annotate.k_shot=2"]
    assert main([*first, *alone]) == 0
    assert "shop: 8 of 8 texts kept; dropped: none" in capsys.readouterr().out
    for command in others:
        assert main([*command, *small]) == 0

    held_out = read_records(pathlib.Path("run/texts/held_out.jsonl"), UserText)
    assert {(text.source_id, text.human_label) for text in held_out} == {
        ("b1", "positive"), ("b2", "negative"), ("b3", "neutral"),
    }  # fmt: skip
    assert len(read_records(pathlib.Path("run/texts/train.jsonl"), UnlabelledText)) == 5
    labels = read_records(pathlib.Path("run/annotations/annotations.jsonl"), Annotation)
    assert {one.label for one in labels if one.task == "urgency"} <= {"urgent", "relaxed"}
    prompts = read_records(pathlib.Path("run/corpus/icldist/prompts.jsonl"), Prompt)
    assert any(prompt.kind == "urgency" and "Mail: " in prompt.prompt for prompt in prompts)
    scores = json.loads(pathlib.Path("run/evaluation/both/scores.json").read_text())
    assert scores["sets"]["held_out/shop"]["examples"] == 2
    assert "shop" in capsys.readouterr().out

    tasks = pathlib.Path("tasks.toml")
    tasks.write_text(tasks.read_text().replace("Just a thought", "Only a thought"))
    assert main([*others[0], *small]) == 2
    assert "definitions was" in capsys.readouterr().err
