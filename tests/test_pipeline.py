"""The whole pipeline in its smoke form, with a tiny teacher, through the command line."""

import dataclasses
import io
import json
import pathlib
import sys
import tarfile

import jax
import pytest
from helpers import TINY, assert_answers_the_corpus, random_decoder
from reciting_model import reciting_model

from configs import demo
from sentidistill_jax.cli import main
from sentidistill_jax.corpus.embedded_sources import VADER_ARCHIVE
from sentidistill_jax.corpus.records import read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.export import export
from sentidistill_jax.models.load import LoadedModel, load_tokenizer
from sentidistill_jax.sharding import make_mesh

_UNLABELLED = """The soup was cold and the waiter rude.
What a wonderful little bakery!
My phone died after two days.
Fast delivery, and the box was nicely packed.
We waited an hour for a table.
This song makes my morning.
The update broke everything I liked.
Great shoes, I wear them every day.
"""
# Rated snippets, so that something can be scored: number, mean rating, text.
_RATED = """0\t2.5\tA warm, witty film.
1\t-2.0\tDull and far too long.
2\t3.0\tFunny from start to finish.
3\t-1.5\tA lazy, joyless sequel.
4\t2.0\tLovely music and a big heart.
5\t-3.0\tThe plot makes no sense at all.
6\t1.5\tThe best acting of the year.
7\t-2.5\tI wanted my money back.
"""
ROOT = pathlib.Path(__file__).parents[1]
MAX_POSITION = 2048  # more bytes than a prompt with demonstrations has


@pytest.fixture(autouse=True)
def own_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)  # main() replaces it, and configs look there


@pytest.fixture
def models(tmp_path) -> dict[str, list[str]]:
    """Stage -> settings for a teacher that writes what is worth learning, and a student of none."""
    teacher = reciting_model(":", mixed=0.1, max_position=MAX_POSITION)
    config = dataclasses.replace(TINY, max_position=MAX_POSITION)
    decoder = random_decoder(make_mesh({}, jax.devices()[:1]), config, seed=1)
    export(teacher, tmp_path / "teacher")
    export(LoadedModel(decoder, teacher.tokenizer, "random", "random"), tmp_path / "student")
    both = [
        f"--config.teacher.source={tmp_path / 'teacher'}",
        "--config.data.seq_length=1024",
        "--config.optimizer.learning_rate=0.01",
    ]
    return {
        "knowdist": [*both, f"--config.student.source={tmp_path / 'student'}"],
        "icldist": both,
    }


def _tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def texts(tmp_path) -> list[str]:
    """Settings for a user's own texts and some that people have rated."""
    inner = _tar("x/movieReviewSnippets_GroundTruth.txt", _RATED.encode())
    archive = _tar("x/additional_resources/hutto_ICWSM_2014.tar.gz", inner)
    (tmp_path / VADER_ARCHIVE).write_bytes(archive)
    (tmp_path / "mine.txt").write_text(_UNLABELLED)
    sources = ("movie", str(tmp_path / "mine.txt"))
    return [
        f"--config.texts.sources={sources}",
        f"--config.texts.folder={tmp_path}",
        "--config.texts.held_out_fraction=0.4",  # of sixteen texts
    ]


def _losses(run: pathlib.Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["train/loss"] for line in lines]


def _files(root: pathlib.Path) -> dict[pathlib.Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_texts_become_a_student_that_predicts(tmp_path, texts, models, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    root, exported = tmp_path / "run", tmp_path / "exported"
    workdir = f"--workdir={root}"
    verbs = [
        [*verb, f"--config=configs/{stage}.py:smoke", *texts, *models[stage], workdir]
        for stage, *verb in (
            ("knowdist", "corpus"), ("knowdist", "teach"), ("knowdist", "train"),
            ("icldist", "corpus"), ("icldist", "teach"), ("icldist", "train"),
            ("icldist", "evaluate", "--model=students/both"),
        )
    ]  # fmt: skip
    for arguments in verbs:
        assert main(arguments) == 0

    train = read_records(root / "texts" / "train.jsonl", UnlabelledText)
    held_out = read_records(root / "texts" / "held_out.jsonl", UserText)
    assert {text.source for text in train} == {"movie", "mine"}
    assert len(train) + len(held_out) == 16
    for stage in ("knowdist", "icldist"):
        cache = open_cache(root / "cache" / stage / "records")
        prompts = root / "corpus" / stage / "prompts.jsonl"
        assert_answers_the_corpus(cache, prompts, load_tokenizer(str(tmp_path / "teacher")))
    for name in ("knowdist", "both"):
        losses = _losses(root / "students" / name)
        assert losses[-1] < 0.8 * losses[0]

    scores = json.loads((root / "evaluation" / "both" / "scores.json").read_text())
    rated = [text for text in held_out if text.human_label is not None]
    assert scores["sets"]["held_out/reviews"]["examples"] == len(rated) > 0

    files = _files(root)
    for arguments in verbs:
        assert main(arguments) == 0
    assert _files(root) == files  # finished work is not done again

    export = ["export", workdir, "--model=students/both", f"--output={exported}"]
    assert main(export) == 0
    capsys.readouterr()
    predictions = []
    for model in ("students/both", str(exported)):
        text = "--text=A quiet treasure."
        assert main(["predict", workdir, f"--model={model}", text, "--nocalibrate"]) == 0
        predictions.append(json.loads(capsys.readouterr().out))
    assert predictions[0] == predictions[1]
    assert predictions[0]["label"] in ("positive", "negative")
    assert sum(predictions[0]["probs"].values()) == pytest.approx(1, abs=1e-3)

    assert main(["report", workdir]) == 0
    table = (root / "report" / "table.md").read_text()
    macro_f1 = scores["sets"]["held_out/reviews"]["macro_f1"]
    assert f"| both | {100 * macro_f1:.1f} [" in table
    assert (root / "report" / "scores.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_the_demo_tells_its_story_to_the_end(tmp_path, texts, models, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    cut = f"--config.student.source={tmp_path / 'teacher'}"
    settings = []
    for name in demo.get_config("smoke").students:
        of_run = [*texts, *models["icldist"], *([cut] if name.endswith("start") else [])]
        settings += [one.replace("--config.", f"--config.{name}.") for one in of_run]
    command = ["demo", "--config=configs/demo.py:smoke", *settings, f"--workdir={tmp_path / 'run'}"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    for name in ("student-start", "student-both-256", "student-small", "linear-teacher"):
        assert name in shown
    files = _files(tmp_path / "run")
    assert main(command) == 0
    changed = {file.name for file, time in _files(tmp_path / "run").items() if files[file] != time}
    assert changed <= {"report.html", "table.md", "scores.png"}  # finished work is not done again
