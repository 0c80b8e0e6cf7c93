"""A loaded teacher whose student reads other tokens: it learns text and labels alone."""

import json
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model
from ml_collections import ConfigDict
from reciting_model import reciting_model

from sentidistill_jax.artifact import ArtifactMismatchError
from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt, read_records, write_records
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import CacheMismatchError, open_cache
from sentidistill_jax.export import export
from sentidistill_jax.models.load import load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.reporting.cache_report import inspect_cache
from sentidistill_jax.settings import Config
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages import corpus
from sentidistill_jax.stages.teach import teach
from sentidistill_jax.stages.train import train_student
from sentidistill_jax.teacher.annotate import Annotation
from sentidistill_jax.workdir import Workdir

ROOT = pathlib.Path(__file__).parents[2]
STUDENT_TOKENIZER = byte_tokenizer(["positive", "negative", "neutral"])
TEXTS = ("So good, so warm.", "Dull and far too long.")

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("models")
    export(reciting_model("?"), directory / "teacher")
    mesh = make_mesh({}, jax.devices()[:1])
    export(random_model(mesh, STUDENT_TOKENIZER), directory / "student")
    return directory


@pytest.fixture
def config(models) -> Config:
    config = runpy.run_path(str(ROOT / "configs" / "base.py"))["get_config"]()
    config.teacher.update(source=str(models / "teacher"), dtype="float32", tokens_per_batch=1024)
    config.student.update(source=str(models / "student"), layers=(), dtype="float32")
    config.annotate.tasks = ConfigDict({"sentiment": 0}, convert_dict=False)
    config.annotate.update(k_shot=2, draws=1)
    config.generation.update(temperature=0.0, top_p=1.0, max_new_tokens=8)
    config.cache.update(mode="top_p", top_p=0.9, temperatures=(1.0, 2.0), records_per_shard=3)
    config.objective.update(name="icldist", alpha=0.0, label_weight=1.0)
    config.data.update(global_batch_size=1, micro_batches=1, seq_length=400, scored_length=64)
    config.data.epochs = 1
    return config.lock()


@pytest.fixture
def workdir(config, tmp_path) -> Workdir:
    """With labelled texts and three prompts for each: to write about it, and to label it."""
    workdir = Workdir(tmp_path / "run")
    texts = [UnlabelledText(f"id{i}", "mine", text) for i, text in enumerate(TEXTS)]
    write_records(workdir.texts / "train.jsonl", texts, UnlabelledText)
    corpus.annotate(config, workdir)
    shots = (Demonstration("Bad.", "negative"), Demonstration("Lovely.", "positive"))
    prompts = []
    for text in texts:
        question = f"{text.text}\nWhat of it?"
        prompts.append(Prompt("knowdist", "analyse/target", text.id, question, f"Now, {question}"))
        prompts += [icldist.build_prompt("sentiment", text, asked) for asked in (shots, ())]
    write_records(workdir.prompts("knowdist") / "prompts.jsonl", prompts, Prompt)
    return workdir


def load_never():
    raise AssertionError("the teacher was loaded")


class TestTeach:
    def test_the_cache_has_text_and_labels_in_the_tokens_of_the_student(self, config, workdir):
        teach(config, workdir)
        directory = workdir.cache("knowdist")
        reader = open_cache(directory / "records")
        assert reader.manifest.mode == "text" and reader.manifest.temperatures == (1.0,)
        assert reader.manifest.tokenizer_fingerprint == tokenizer_fingerprint(STUDENT_TOKENIZER)
        annotations = read_records(workdir.annotations / "annotations.jsonl", Annotation)
        annotated = {annotation.text_id: annotation for annotation in annotations}
        assert len(reader) == 3 * len(TEXTS)
        for index, record in enumerate(reader):
            text_id = f"id{index // 3}"
            text = STUDENT_TOKENIZER.decode(record.tokens)
            completion = STUDENT_TOKENIZER.decode(record.tokens[record.completion_start :])
            assert record.targets.counts.shape == (len(record.tokens) - record.completion_start,)
            if index % 3 == 0:
                assert completion == " a warm and witty film\n"
                assert text == f"{TEXTS[index // 3]}\nWhat of it?{completion}"
                assert record.labels is None
                assert (record.targets.ids == record.tokens[record.completion_start :]).all()
            else:
                assert completion == f" {annotated[text_id].label}\n"
                assert record.labels is not None
                words = [STUDENT_TOKENIZER.decode([token]) for token in record.labels.ids]
                assert words == [f" {label}" for label in icldist.TASKS["sentiment"].labels]
                expected = annotated[text_id].logprobs
                np.testing.assert_allclose(record.labels.logprobs, expected, atol=1e-6)
        assert " a warm and witty film" in inspect_cache(directory)

    def test_it_resumes_and_is_not_taken_for_the_cache_of_other_tokens(
        self, config, workdir, models
    ):
        teach(config, workdir)
        teach(config, workdir, load_never)
        config.student.source = str(models / "teacher")
        with pytest.raises(ArtifactMismatchError, match="tokenizer was"):
            teach(config, workdir, load_never)

    def test_label_prompts_alone_need_no_answer(self, config, workdir, capsys):
        text = UnlabelledText("id0", "mine", TEXTS[0])
        prompts = [icldist.build_prompt("sentiment", text, ())]
        write_records(workdir.prompts("knowdist") / "prompts.jsonl", prompts, Prompt)
        teach(config, workdir)
        assert len(open_cache(workdir.cache("knowdist") / "records")) == 1
        assert "text and labels alone, as the student reads other tokens" in capsys.readouterr().out

    def test_distributions_are_refused_before_the_teacher_is_loaded(self, config, workdir):
        config.objective.alpha_schedule = ((0.5, 0.25),)
        with pytest.raises(ValueError) as error:
            teach(config, workdir, load_never)
        student = re.escape(
            f"student.source='{config.student.source}' reads a vocabulary of 512 tokens"
        )
        teacher = re.escape(f"teacher.source='{config.teacher.source}' another, of 512,")
        assert re.search(
            f"{student}.*{teacher}.*--config.objective.alpha=0.*set student.source to the teacher",
            str(error.value),
        )
        assert not workdir.cache("knowdist").exists()


def test_a_student_learns_the_text_and_no_distributions(config, workdir):
    teach(config, workdir)
    config.objective.alpha = 0.5
    with pytest.raises(CacheMismatchError) as error:
        train_student(config, workdir)
    assert re.search(
        "no distributions, and objective.alpha=0.5 needs them; the teacher's tokens are the 512 of"
        " .*teacher; the student's tokens are the 512 of .*student; set",
        str(error.value),
    )
    assert not workdir.student("knowdist").exists()
    config.objective.alpha = 0.0
    config.data.epochs = 10
    config.optimizer.update(learning_rate=1e-2, warmup_fraction=0.0, frozen=())
    config.log_interval = 1
    model = train_student(config, workdir)
    lines = (workdir.student("knowdist") / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train/ce_nats"] for line in lines if "train/ce_nats" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert tokenizer_fingerprint(load_tokenizer(str(model))) == tokenizer_fingerprint(
        STUDENT_TOKENIZER
    )
