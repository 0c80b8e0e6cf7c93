"""The journal: what survives a process that is killed, and what is refused."""

import os
import re
import signal
import subprocess
import sys

import pytest

from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.protocol import Answer, TokenLogprobs


def answer(text):
    tokens = (TokenLogprobs(text, {text: -0.5, "é\n": -2.25}),)
    return Answer("m-1", text, "stop", tokens, (), 3, 1)


def test_answers_come_back_as_they_were(tmp_path):
    texts = {"a": "so", "b": "ünï\n\u2028😊", "c": ""}
    with Journal(tmp_path / "journal.jsonl") as journal:
        for key, text in texts.items():
            journal.append(key, answer(text))
            assert journal[key] == answer(text)
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert len(journal) == 3 and journal.models == {"m-1"}
        assert {key: journal[key] for key in texts} == {k: answer(t) for k, t in texts.items()}
        assert "d" not in journal
        with pytest.raises(KeyError):
            journal["d"]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_forgotten_and_written_over(tmp_path, cut):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("a", answer("one"))
        journal.append("b", answer("two"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path) as journal:
        assert "a" in journal and "b" not in journal
        journal.append("b", answer("two"))
    assert path.read_bytes() == whole


def test_damage_elsewhere_names_the_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("a", answer("one"))
        journal.append("b", answer("two"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["{" + lines[0][2:], lines[1], ""]))
    with pytest.raises(ValueError, match=r"journal.jsonl:1 is damaged .*remove that line"):
        Journal(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"text": "two"', '"text": "too"', "it does not fit its checksum"),
        ('"key": "b"', '"key": "a"', "it does not fit its checksum"),
        ("{}", "{}\n{}", "3 is damaged .an earlier line answers the same request"),
        # Of a version that took any list, and wrote no checksum.
        ("-0.5", "0.5", "add up to 1.7"),
    ],
)
def test_a_line_that_was_changed_is_set_aside_by_removing_it(tmp_path, old, new, message):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("a", answer("one"))
        journal.append("b", answer("two"))
    first, second = path.read_text().splitlines()
    changed = new.format(second, second) if old == "{}" else second.replace(old, new)
    if old == "-0.5":
        changed = re.sub(', "checksum": "[0-9a-f]+"', "", changed)
    path.write_text(f"{first}\n{changed}\n")
    with pytest.raises(ValueError, match=rf"{message}.*; remove that line"):
        Journal(path)
    path.write_text("\n".join([first, *changed.splitlines()[:-1], ""]))
    with Journal(path) as journal:
        assert journal["a"] == answer("one") and ("b" in journal) == (old == "{}")


def test_two_writers_are_refused_and_no_file_is_made_before_an_answer(tmp_path):
    path = tmp_path / "deep" / "journal.jsonl"
    with Journal(path) as journal:
        assert not path.parent.exists()
        journal.append("a", answer("one"))
        with pytest.raises(BlockingIOError, match="another process writes to"):
            Journal(path)
    with Journal(path) as journal:
        assert "a" in journal


def test_a_killed_process_loses_no_answer(tmp_path):
    path = tmp_path / "journal.jsonl"
    script = f"""
import os, pathlib, signal
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.protocol import Answer
journal = Journal(pathlib.Path({str(path)!r}))
for number in range(5):
    journal.append(str(number), Answer("m", "x" * 1000, "stop", (), (), None, 1))
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    with Journal(path) as journal:
        assert [str(number) in journal for number in range(6)] == [True] * 5 + [False]
