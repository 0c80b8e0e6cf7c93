import dataclasses
import json

import pytest

from sentidistill_jax.corpus.records import Prompt, read_records, write_records
from sentidistill_jax.corpus.user_texts import UserText

PROMPTS = [
    Prompt("knowdist", "analyse/target", "t1", "short", "long"),
    Prompt(
        "icldist",
        "sentiment",
        "t2",
        "Review: caf\u00e9\nSentiment:",
        "Review: caf\u00e9\nSentiment:",
        (" positive", " negative"),
        answer_suffix="!",
        wording=2,
        format="json",
        answer=" positive!",
    ),
]


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "prompts.jsonl"
    write_records(path, PROMPTS, Prompt)
    assert read_records(path, Prompt) == PROMPTS
    assert [file.name for file in path.parent.iterdir()] == ["prompts.jsonl"]
    header, *lines = map(json.loads, path.read_text("utf-8").splitlines())
    assert header == {"schema": "Prompt", "schema_version": 2, "records": 2}
    assert [line["id"] for line in lines] == [prompt.id for prompt in PROMPTS]


def test_records_without_a_hash_round_trip(tmp_path):
    texts = [
        UserText("1", "movie", "a", "train", "positive", 2.5),
        UserText("2", "x", "b", "held_out"),
    ]
    write_records(tmp_path / "texts.jsonl", texts, UserText)
    assert read_records(tmp_path / "texts.jsonl", UserText) == texts


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Prompt) if f.init])
def test_id_depends_on_every_field(name):
    value = getattr(PROMPTS[1], name)
    changed = (value + 1) if isinstance(value, int) else (value[:-1] if value else "x")
    assert dataclasses.replace(PROMPTS[1], **{name: changed}).id != PROMPTS[1].id


def test_id_is_stable():
    assert PROMPTS[0].id == "873f386da6d356dd53a863a10af1147e"


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "texts.jsonl"
    text = UserText("1", "movie", "a", "train")
    write_records(path, [text], UserText)
    broken = dataclasses.replace(text, rating=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_records(path, [text, broken], UserText)
    assert read_records(path, UserText) == [text]
    assert [file.name for file in tmp_path.iterdir()] == ["texts.jsonl"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda text: text.replace('"Prompt"', '"UserText"'),
            r"schema='UserText', expected 'Prompt'",
        ),
        (lambda text: text.replace('n": 2,', 'n": 9,', 1), r"schema_version=9, expected 2"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n", r"records=2, expected 1"),
        (
            lambda text: text.replace('"short"', '"shord"'),
            r"jsonl:2 has id='[0-9a-f]+', but its content",
        ),
        (lambda text: "", r"schema=None, expected 'Prompt'"),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage, message):
    path = tmp_path / "prompts.jsonl"
    write_records(path, PROMPTS, Prompt)
    path.write_text(damage(path.read_text("utf-8")), "utf-8")
    with pytest.raises(ValueError, match=message):
        read_records(path, Prompt)
