"""A served teacher through the command line: labels, cache, what is written and what never is."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model
from served_model import ToyModel, serving

from sentidistill_jax.cli import main
from sentidistill_jax.corpus.records import read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.export import export
from sentidistill_jax.models.trimmed_vocabulary import TrimmedVocabulary
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotation

KEY = "sk-very-secret-0123456789"
TOKENIZER = byte_tokenizer(["positive", "negative"])
TEXTS = "So good, so warm.\nDull and far too long.\nA film about dogs.\nI love this!\n"
CONFIG = """
from ml_collections import ConfigDict
from configs import base

def get_config():
    config = base.get_config()
    config.texts.sources, config.texts.held_out_fraction = ("{folder}/mine.txt",), 0.25
    config.teacher.endpoint.update(base_url="{url}", api_key_env="MY_KEY", top_logprobs=8)
    config.teacher.endpoint.update(retries=1, concurrency=1)
    config.annotate.tasks = ConfigDict(dict(sentiment=0), convert_dict=False)
    config.annotate.update(k_shot=2, draws=1)
    config.knowdist.perspectives = ConfigDict({{"analyse/polarity": 1.0}}, convert_dict=False)
    config.generation.max_new_tokens = 40
    config.cache.update(top_k=4, records_per_shard=2)
    config.student.update(source="{folder}/student", layers=(), dtype="float32")
    config.data.update(global_batch_size=1, seq_length=512, scored_length=64, epochs=1)
    return config
"""

pytestmark = pytest.mark.usefixtures("one_device")


class Sentiments(ToyModel):
    """Has an opinion where one is asked for."""

    def answer(self, prompt):
        if prompt.endswith("\nSentiment:"):
            return " negative\n" if "Dull" in prompt.splitlines()[-2] else " positive\n"
        return " a warm and witty film\n"


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    directory = tmp_path_factory.mktemp("student")
    export(random_model(make_mesh({}, jax.devices()[:1]), TOKENIZER), directory / "student")
    return directory


@pytest.fixture
def run(tmp_path, student, monkeypatch):
    """Runs verbs against a server; returns their exit codes."""
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr(sys, "argv", sys.argv)  # main() replaces it
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    (student / "mine.txt").write_text(TEXTS)

    def run(server, *verbs, model=None, **flags):
        file = tmp_path / "tiny.py"
        file.write_text(CONFIG.format(folder=student, url=server.url))
        options = [f"--config.{name.replace('__', '.')}={value}" for name, value in flags.items()]
        options += [f"--model={model}"] if model else []
        workdir = f"--workdir={tmp_path / 'run'}"
        return [main([verb, f"--config={file}", workdir, *options]) for verb in verbs]

    return run


def files_with(folder: pathlib.Path, text: str) -> list[pathlib.Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) > 5
    return [path for path in found if text.encode() in path.read_bytes()]


def test_a_served_teacher_labels_answers_and_is_cached(run, tmp_path, capfd):
    with serving(Sentiments(TOKENIZER)) as server:
        assert run(server, "corpus", "teach") == [0, 0]
        assert server.keys == {KEY}
        assert not [body for body in server.asked if "key" in body]
    texts = read_records(tmp_path / "run/texts/train.jsonl", UnlabelledText)
    annotations = read_records(tmp_path / "run/annotations/annotations.jsonl", Annotation)
    assert {a.text_id: a.label for a in annotations} == {
        text.id: "negative" if "Dull" in text.text else "positive" for text in texts
    }
    assert {a.label for a in annotations} == {"positive", "negative"}
    reader = open_cache(tmp_path / "run" / "cache" / "knowdist" / "records")
    assert reader.manifest.mode == "top_k" and reader.manifest.top_k == 4
    assert reader.manifest.config["teacher"]["models"] == ["toy-v1"]
    for record in (reader[index] for index in range(len(reader))):
        completion = TOKENIZER.decode(record.tokens[record.completion_start :])
        assert completion == " a warm and witty film\n"
        assert record.targets.counts.min() >= 4
    said = "".join(capfd.readouterr())
    assert "toy gives text and token targets" in said
    # Neither what is written nor what is said holds the key, and manifests hold no address.
    assert KEY not in said
    assert not files_with(tmp_path, KEY)
    written = files_with(tmp_path / "run", server.url)
    assert not written

    with serving(Sentiments(TOKENIZER)) as server:  # elsewhere
        assert run(server, "corpus", "teach") == [0, 0]
        assert not server.asked


def test_a_failing_server_is_one_sentence_and_the_next_run_goes_on(run, tmp_path, capfd):
    with serving(Sentiments(TOKENIZER)) as server:
        assert run(server, "corpus") == [0]
        server.faults.extend([*["none"] * 5, 401])
        server.fault_text = "Incorrect API key provided: {key}"
        assert run(server, "teach") == [2]
        said = capfd.readouterr().err
        assert "answered 401" in said and "check the key in MY_KEY" in said
        assert "5 answers are kept in" in said and KEY not in said
        assert not files_with(tmp_path, KEY)
        asked = len(server.asked)
        assert run(server, "teach") == [0]
        again = [json.dumps(body) for body in server.asked[asked:]]
        assert not {json.dumps(body) for body in server.asked[: asked - 1]} & set(again)


def test_text_alone_is_learnt_only_without_a_divergence(run, tmp_path, capfd):
    with serving(Sentiments(TOKENIZER)) as server:
        server.lists_logprobs = False
        assert run(server, "corpus", "teach") == [0, 0]
        said = "".join(capfd.readouterr())
        assert "toy gives text alone (the server gives no logprobs)" in said
        assert "training needs --config.objective.alpha=0, it is 0.5" in said
        assert open_cache(tmp_path / "run/cache/knowdist/records").manifest.mode == "text"
        assert run(server, "train") == [2]
        assert "no distributions, and objective.alpha=0.5 needs them; set" in capfd.readouterr().err
        assert not (tmp_path / "run" / "students").exists()
        assert run(server, "train", objective__alpha=0.0) == [0]
    lines = (tmp_path / "run/students/knowdist/metrics.jsonl").read_text().splitlines()
    assert np.isfinite([json.loads(line)["train/ce_nats"] for line in lines]).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cache__mode": "top_p"}, "cache.mode='top_p' with cache.temperatures=(1.0,) cannot be"),
        ({"teacher__endpoint__api": "rest"}, "endpoint.api='rest' must be one of"),
        ({"teacher__endpoint__api_key_env": "NO_KEY"}, "variable 'NO_KEY' is not set"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_written(
    run, tmp_path, capfd, flags, message
):
    with serving(Sentiments(TOKENIZER)) as server:
        assert run(server, "corpus") == [0]
        asked = len(server.asked)
        assert run(server, "teach", **flags) == [2]
        assert message in capfd.readouterr().err
        assert len(server.asked) == asked
    assert not (tmp_path / "run" / "cache").exists()


@pytest.mark.sentibench
def test_a_served_model_is_scored_on_sentibench(run, tmp_path, capfd, monkeypatch, sentibench_dir):
    flags = {
        "texts__sentibench_dir": sentibench_dir,
        "evaluation__sentibench_examples": 3,
        "evaluation__sentibench__datasets": "('sc/sst2', 'absa/acsa_rest16')",
    }
    with serving(Sentiments(TOKENIZER)) as server:
        assert run(server, "corpus", **flags) == [0]
        server.faults.extend([*["none"] * 4, 401])
        assert run(server, "evaluate", model="endpoint", **flags) == [2]
        asked = len(server.asked)
        assert run(server, "evaluate", model="endpoint", **flags) == [0]
        assert len(server.asked) - asked == 6 - 4  # what the journal has is not asked again
    assert "endpoint" in capfd.readouterr().out
    scores = json.loads((tmp_path / "run/evaluation/endpoint/scores.json").read_text())
    assert scores["sets"]["sentibench/sc/sst2"]["examples"] == 3
    assert scores["sets"]["sentibench/absa/acsa_rest16"]["metric"] == "micro_f1"
    assert scores["provenance"]["endpoint"]["model"] == "toy"
    assert not files_with(tmp_path / "run", server.url)


def test_an_endpoint_is_scored_only_where_one_is_named(run, tmp_path, capfd):
    with serving(Sentiments(TOKENIZER)) as server:
        options = {"model": "endpoint", "teacher__endpoint__base_url": ""}
        assert run(server, "evaluate", **options) == [2]
        assert "set --config.teacher.endpoint.base_url" in capfd.readouterr().err


def test_answers_are_not_kept_in_the_tokens_of_a_trimmed_student(run, tmp_path, capfd):
    trimmed = tmp_path / "trimmed"
    trimmed.mkdir()
    TrimmedVocabulary(np.arange(3), 7, "larger").save(trimmed)
    with serving(Sentiments(TOKENIZER)) as server:
        assert run(server, "corpus") == [0]
        asked = len(server.asked)
        assert run(server, "teach", student__source=trimmed) == [2]
        assert "has a trimmed vocabulary, and answers are kept in" in capfd.readouterr().err
        assert len(server.asked) == asked
