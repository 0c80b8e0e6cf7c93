"""Stages on a tiny random model: what they refuse, how they resume, and that nothing goes stale."""

import json
import runpy
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_cache, random_model
from ml_collections import ConfigDict

from sentidistill_jax.artifact import ArtifactMismatchError, fingerprint, write_json
from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt, read_records, write_records
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText
from sentidistill_jax.data.teacher_cache import CacheMismatchError, ShardBuilder, open_cache
from sentidistill_jax.export import export
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.models.load import load_model, load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.settings import Config, take_whole
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages import corpus, evaluate
from sentidistill_jax.stages.teach import teach
from sentidistill_jax.stages.train import train_student
from sentidistill_jax.teacher import annotate as annotation
from sentidistill_jax.teacher.annotate import Annotation, Annotator
from sentidistill_jax.teacher.local_answers import LocalAnswers
from sentidistill_jax.training.student import Cut
from sentidistill_jax.workdir import Workdir

ROOT = Path(__file__).parents[2]
TEXTS = ("So good, so warm.", "Dull and far too long.", "A film about dogs.", "I love this!", "No.")

pytestmark = pytest.mark.usefixtures("one_device", "no_sentibench")


@pytest.fixture
def no_sentibench(monkeypatch):
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "tiny"
    mesh = make_mesh({}, jax.devices()[:1])
    export(random_model(mesh, byte_tokenizer(["positive", "negative"])), directory)
    return directory


@pytest.fixture
def config(model_directory) -> Config:
    config = runpy.run_path(str(ROOT / "configs" / "base.py"))["get_config"]()
    config.teacher.update(source=str(model_directory), dtype="float32", tokens_per_batch=1024)
    config.student.update(source=str(model_directory), layers=(), dtype="float32")
    config.annotate.tasks = ConfigDict({"sentiment": 0}, convert_dict=False)
    config.annotate.update(k_shot=2, draws=1)
    config.generation.update(temperature=0.0, top_p=1.0, max_new_tokens=4)
    config.data.update(
        global_batch_size=1, micro_batches=1, seq_length=16, scored_length=8, epochs=1
    )
    config.optimizer.update(warmup_fraction=0.0, frozen=())
    return config.lock()


@pytest.fixture
def workdir(tmp_path):
    """With texts, as the first stage leaves them."""
    workdir = Workdir(tmp_path / "run")
    texts = [UnlabelledText(f"id{i}", "mine", text) for i, text in enumerate(TEXTS)]
    write_records(workdir.texts / "train.jsonl", texts, UnlabelledText)
    write_held_out(workdir, ("positive", "negative", None))
    return workdir


def write_held_out(workdir, labels):
    held_out = [
        UserText(f"out{i}", "movie", text, "held_out", label)
        for i, (text, label) in enumerate(zip(TEXTS, labels, strict=False))
    ]
    write_records(workdir.texts / "held_out.jsonl", held_out, UserText)


class TestAnnotate:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"k_shot": 999}, "annotate.k_shot=999"),
            ({"tasks": {"dance": 0}}, "annotate.tasks has 'dance'"),
            ({"priors": {"sentiment": (1.0,)}}, "annotate.priors.sentiment=.* positive share"),
            ({"priors": {"irony": (1.0, 1.0)}}, r"annotate.priors has \['irony'\]"),
        ],
    )
    def test_bad_settings_are_refused_before_anything_is_written(
        self, config, workdir, changes, message
    ):
        with config.unlocked():
            for name, value in changes.items():
                section = isinstance(value, dict)
                config.annotate[name] = ConfigDict(value) if section else value
        with pytest.raises(ValueError, match=message):
            corpus.annotate(config, workdir)
        assert not workdir.annotations.exists()

    def test_it_resumes_between_chunks(self, config, workdir, tmp_path, monkeypatch):
        monkeypatch.setattr(annotation, "_CHUNK", 2)
        whole = Workdir(tmp_path / "whole")
        shutil.copytree(workdir.texts, whole.texts)
        corpus.annotate(config, whole)

        asked: list[str] = []
        scores = Annotator.scores

        def counted(self, texts, *, progress=None):
            if len(asked) == 2:
                asked.append("stopped")
                raise KeyboardInterrupt
            asked.extend(text.id for text in texts)
            return scores(self, texts, progress=progress)

        monkeypatch.setattr(Annotator, "scores", counted)
        with pytest.raises(KeyboardInterrupt):
            corpus.annotate(config, workdir)
        assert not (workdir.annotations / "manifest.json").exists()
        corpus.annotate(config, workdir)
        assert asked == ["id0", "id1", "stopped", "id2", "id3", "id4"]  # each text once
        for name in ("annotations.jsonl", "offsets.json", "manifest.json"):
            one, other = (place.annotations / name for place in (workdir, whole))
            assert one.read_bytes() == other.read_bytes()

    def test_average_prediction_is_the_prior(self, config, workdir):
        with config.unlocked():
            config.annotate.priors.sentiment = (0.8, 0.2)
        corpus.annotate(config, workdir)
        found = read_records(workdir.annotations / "annotations.jsonl", Annotation)
        assert [one.text_id for one in found] == ["id0", "id1", "id2", "id3", "id4"]
        mean = np.exp([one.logprobs for one in found]).mean(axis=0)
        np.testing.assert_allclose(mean, [0.8, 0.2], atol=1e-3)


class TestPromptsAndCache:
    def test_an_unknown_perspective_is_refused_before_anything_is_written(self, config, workdir):
        corpus.annotate(config, workdir)
        with config.unlocked():
            config.knowdist.perspectives = ConfigDict({"analyse/mood": 1.0})
        with pytest.raises(ValueError, match="perspective 'analyse/mood' is not known"):
            corpus.build_prompts(config, workdir)
        assert not workdir.prompts("knowdist").exists()

    def test_prompts_are_made_of_the_texts_that_a_model_finds_difficult(self, config, workdir):
        corpus.annotate(config, workdir)
        corpus.measure_difficulty(config, workdir)
        assert not (workdir.root / "difficulty").exists()  # nothing is asked for
        config.difficulty.update(model=config.student.source, share=0.4)
        corpus.measure_difficulty(config, workdir)
        found = json.loads((workdir.difficulty("knowdist") / "difficulty.json").read_text())
        assert set(found) == {f"id{i}" for i in range(5)} and min(found.values()) >= 0
        corpus.build_prompts(config, workdir)
        prompts = read_records(workdir.prompts("knowdist") / "prompts.jsonl", Prompt)
        assert {prompt.text_id for prompt in prompts} == set(sorted(found, key=found.get)[-2:])
        config.difficulty.share = 1.0
        with pytest.raises(ArtifactMismatchError, match="hardest was 0.4, now 1.0"):
            corpus.build_prompts(config, workdir)

    def test_difficulty_is_measured_against_the_teachers_labels(self, config, workdir):
        ironic = Annotation("irony", "id0", "ironic", (-0.1, -2.3))
        write_records(workdir.annotations / "annotations.jsonl", [ironic], Annotation)
        config.difficulty.model = config.student.source
        with pytest.raises(ValueError, match="labelled no sentiment; add sentiment to annotate"):
            corpus.measure_difficulty(config, workdir)

    def test_other_settings_of_a_finished_corpus_are_refused(self, config, workdir):
        corpus.annotate(config, workdir)
        corpus.build_prompts(config, workdir)
        prompts = read_records(workdir.prompts("knowdist") / "prompts.jsonl", Prompt)
        assert {prompt.text_id for prompt in prompts} == {f"id{i}" for i in range(5)}
        config.knowdist.per_text = 2
        with pytest.raises(ArtifactMismatchError, match="settings.per_text was 1, now 2"):
            corpus.build_prompts(config, workdir)

    def test_a_bad_sampling_setting_is_refused_before_anything_is_written(self, config, workdir):
        corpus.annotate(config, workdir)
        corpus.build_prompts(config, workdir)
        config.generation.top_p = 0.0
        with pytest.raises(ValueError, match="0 < top_p"):
            teach(config, workdir)
        assert not workdir.cache("knowdist").exists()

    def test_a_teacher_that_says_nothing_worth_learning_is_an_error(self, config, workdir):
        texts = [UnlabelledText("id0", "mine", TEXTS[0])]
        write_records(workdir.texts / "train.jsonl", texts, UnlabelledText)
        corpus.annotate(config, workdir)
        prompt = Prompt("knowdist", "analyse/target", "id0", "What?", "What?")
        write_records(workdir.prompts("knowdist") / "prompts.jsonl", [prompt], Prompt)
        with pytest.raises(ValueError, match="none of the teacher's 1 answers is worth learning"):
            teach(config, workdir)
        assert not (workdir.cache("knowdist") / "manifest.json").exists()


SHARD = "shard-00001-of-00003"
MODES = {
    "top_k": {"mode": "top_k", "top_k": 8},
    "top_p": {"mode": "top_p", "top_k": 64, "top_p": 0.2, "codec": "small"},
    "sampled": {"mode": "sampled", "num_draws": 20, "codec": "small"},
}


@pytest.fixture
def asked(config, workdir):
    """With label prompts, bare and with demonstrations, that all have answers."""
    corpus.annotate(config, workdir)
    demonstrations = (Demonstration("Bad.", "negative"), Demonstration("Lovely.", "positive"))
    texts = read_records(workdir.texts / "train.jsonl", UnlabelledText)
    prompts = [
        icldist.build_prompt("sentiment", text, shots)
        for text in texts
        for shots in (demonstrations, ())
    ]
    write_records(workdir.prompts("knowdist") / "prompts.jsonl", prompts, Prompt)
    config.data.update(seq_length=400, scored_length=16)
    return workdir


class TestModes:
    @pytest.mark.parametrize("mode", MODES)
    def test_a_student_trains_from_each(self, config, asked, mode):
        config.cache.update(**MODES[mode])
        teach(config, asked)
        reader = open_cache(asked.cache("knowdist") / "records")
        manifest = reader.manifest
        assert (manifest.mode, len(reader)) == (mode, 10)
        assert manifest.top_p == (0.2 if mode == "top_p" else None)
        assert manifest.num_draws == (20 if mode == "sampled" else None)
        assert manifest.config["teacher"]["source"] == config.teacher.source
        train_student(config, asked)
        lines = (asked.student("knowdist") / "metrics.jsonl").read_text().splitlines()
        divergences = [json.loads(line)["train/divergence_nats"] for line in lines]
        assert len(divergences) > 1 and np.isfinite(divergences).all() and min(divergences) > 0

    def test_stopped_in_a_shard_it_goes_on_there_and_leaves_the_same_files(
        self, config, asked, tmp_path, monkeypatch
    ):
        config.cache.records_per_shard = 4
        whole = Workdir(tmp_path / "whole")
        shutil.copytree(asked.root, whole.root)
        teach(config, whole)

        finish = ShardBuilder.finish

        def stop_after_1(self):
            if len(list((asked.cache("knowdist") / "records").glob("shard-*-of-00003"))) == 1:
                raise KeyboardInterrupt
            finish(self)

        with monkeypatch.context() as patch:
            patch.setattr(ShardBuilder, "finish", stop_after_1)
            with pytest.raises(KeyboardInterrupt):
                teach(config, asked)
        assert not (asked.cache("knowdist") / "manifest.json").exists()

        again: list[str] = []
        answers = LocalAnswers.answers

        def recorded(self, prompts):
            again.extend(prompt.id for prompt in prompts)
            return answers(self, prompts)

        monkeypatch.setattr(LocalAnswers, "answers", recorded)
        teach(config, asked)
        prompts = read_records(asked.prompts("knowdist") / "prompts.jsonl", Prompt)
        assert again == [prompt.id for prompt in prompts[4:]]
        files, others = (
            {
                str(path.relative_to(place.root)): path.read_bytes()
                for path in place.cache("knowdist").rglob("*")
                if path.is_file()
            }
            for place in (whole, asked)
        )
        assert files == others
        assert {path.name for path in asked.cache("knowdist").iterdir()} == {
            "made_from.json", "manifest.json", "records",
        }  # fmt: skip

    @pytest.mark.parametrize("harm", ["bytes", SHARD, f"{SHARD}.json", "manifest.json"])
    def test_a_damaged_part_of_a_finished_cache_is_written_anew(
        self, config, asked, monkeypatch, harm
    ):
        config.cache.records_per_shard = 4
        teach(config, asked)
        records = asked.cache("knowdist") / "records"
        before = {path.name: path.read_bytes() for path in records.iterdir()}
        if harm == "bytes":
            (records / SHARD).write_bytes(before[SHARD][:-1] + b"\xff")
        else:
            (records / harm).unlink()
        asked_again: list[str] = []
        answers = LocalAnswers.answers

        def recorded(self, prompts):
            asked_again.extend(prompt.id for prompt in prompts)
            return answers(self, prompts)

        monkeypatch.setattr(LocalAnswers, "answers", recorded)
        teach(config, asked)
        assert {path.name: path.read_bytes() for path in records.iterdir()} == before
        prompts = read_records(asked.prompts("knowdist") / "prompts.jsonl", Prompt)
        expected = [] if harm == "manifest.json" else prompts[4:8]
        assert asked_again == [prompt.id for prompt in expected]

    def test_other_weights_under_the_same_path_are_noticed(
        self, config, asked, model_directory, tmp_path
    ):
        source = tmp_path / "replaced"
        shutil.copytree(model_directory, source)
        config.teacher.source = str(source)
        with pytest.raises(ArtifactMismatchError, match="teacher.source was"):
            corpus.annotate(config, asked)
        teach(config, asked)
        config.student.source = str(source)
        train_student(config, asked)
        evaluate.evaluate_student("one", config, asked)
        tokenizer = byte_tokenizer(["positive", "negative"])
        export(random_model(make_mesh({}, jax.devices()[:1]), tokenizer, seed=1), source)
        with pytest.raises(ArtifactMismatchError, match=r"\(teacher.weights was"):
            teach(config, asked)
        with pytest.raises(ArtifactMismatchError, match=r"\(initial was"):
            train_student(config, asked)
        with pytest.raises(ArtifactMismatchError, match=r"\(model.weights was"):
            evaluate.evaluate_student("one", config, asked)

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("cache.top_k", 9, "cache.top_k: got 32, expected 9"),
            ("generation.max_new_tokens", 3, "generation.max_new_tokens: got 4, expected 3"),
        ],
    )
    def test_a_cache_of_other_settings_than_the_config_is_refused(
        self, config, asked, field, value, message
    ):
        teach(config, asked)
        config.cache.codec = "small"  # how it is stored, not what
        config.update_from_flattened_dict({field: value})
        with pytest.raises(CacheMismatchError, match=message):
            train_student(config, asked)
        assert not asked.student("knowdist").exists()

    def test_draws_and_a_divergence_that_they_cannot_give(self, config, asked):
        config.cache.update(**MODES["sampled"])
        teach(config, asked)
        config.objective.divergence = "reverse_kl"
        with pytest.raises(ValueError, match="'reverse_kl' is infinite with a cache of mode"):
            train_student(config, asked)
        assert not asked.student("knowdist").exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mode": "nucleus"}, "cache.mode='nucleus' must be one of"),
            ({"mode": "top_p", "top_p": 1.5}, "top_p=1.5 must be a mass"),
            ({"mode": "sampled", "num_draws": 0}, "num_draws=0 must be a positive number"),
            ({"mode": "sampled", "temperatures": (1.0, 2.0)}, "whose draws are taken at"),
            ({"top_k": 0}, "top_k=0 must be 1 to vocab_size"),
        ],
    )
    def test_bad_settings_are_refused_before_anything_is_written(
        self, config, asked, changes, message
    ):
        config.cache.update(**changes)
        with pytest.raises(ValueError, match=message):
            teach(config, asked)
        assert not asked.cache("knowdist").exists()

    def test_a_cache_of_another_teacher_or_corpus_is_refused(self, config, asked):
        teach(config, asked)
        config.teacher.source = "another"
        with pytest.raises(CacheMismatchError, match="config.teacher.source: got .* 'another'"):
            train_student(config, asked)
        prompts = asked.prompts("knowdist") / "prompts.jsonl"
        write_records(prompts, read_records(prompts, Prompt)[1:], Prompt)
        with pytest.raises(CacheMismatchError, match="corpus_fingerprint: got"):
            train_student(config, asked)
        assert not asked.student("knowdist").exists()


@pytest.fixture
def cached(config, workdir, model_directory):
    """With a finished teacher cache of two rows."""
    tokenizer = load_tokenizer(str(model_directory))
    directory = workdir.cache("knowdist")
    random_cache(
        directory / "records",
        [(4, 4)] * 4,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        chat_template_fingerprint=fingerprint(tokenizer.chat_template),
        config={"teacher": {"source": str(model_directory)}},
    )
    made_from = {"generation": config.generation.to_dict(), "cache": config.cache.to_dict()}
    write_json(directory / "manifest.json", {"counts": 4, "made_from": made_from})
    return workdir


class TestStudents:
    def test_trained_once_and_refused_when_its_inputs_change(self, config, cached):
        directory = train_student(config, cached)
        written = (directory / "model.safetensors").stat().st_mtime_ns
        assert train_student(config, cached) == directory
        assert (directory / "model.safetensors").stat().st_mtime_ns == written

        second = config.copy_and_resolve_references()
        second.name, second.student.source = "both", "students/knowdist"
        train_student(second, cached)
        train_student(second, cached)

        config.optimizer.learning_rate *= 2
        with pytest.raises(ArtifactMismatchError, match="optimizer.learning_rate was"):
            train_student(config, cached)
        shutil.rmtree(cached.student("knowdist"))
        train_student(config, cached)
        with pytest.raises(ArtifactMismatchError, match="initial was"):
            train_student(second, cached)

        write_json(cached.cache("knowdist") / "manifest.json", {"counts": 5})
        with pytest.raises(ArtifactMismatchError, match="caches.knowdist was"):
            train_student(config, cached)

    def test_a_model_directory_that_is_gone_is_exported_again(self, config, cached):
        directory = train_student(config, cached)
        written = (directory / "model.safetensors").read_bytes()
        shutil.rmtree(directory)
        assert train_student(config, cached) == directory
        assert (directory / "model.safetensors").read_bytes() == written

    def test_what_a_student_is_cut_by_is_an_input(self, config, cached):
        config.student.update(vocabulary="corpus", caches=("icldist",))
        with pytest.raises(FileNotFoundError, match="run `sentidistill teach` for icldist first"):
            train_student(config, cached)
        shutil.copytree(cached.cache("knowdist"), cached.cache("icldist"))
        train_student(config, cached)
        write_json(cached.cache("icldist") / "manifest.json", {"counts": 5})
        with pytest.raises(ArtifactMismatchError, match="student_caches.* was"):
            train_student(config, cached)

    def test_a_whole_student_keeps_everything(self, config):
        config.student.update(layers=(0,), num_layers=1, vocabulary="corpus", vocabulary_size=9)
        config.student.update(caches=("icldist",))
        config.student.slice.update(embed=8, mlp=8, kv_heads=1)
        take_whole(config.student, "students/one")
        assert config.student.source == "students/one"
        assert Cut.of(config.student) == Cut(widths={"embed": 0, "mlp": 0, "kv_heads": 0})
        assert not config.student.caches

    def test_nothing_is_written_when_a_size_is_wrong(self, config, cached):
        config.data.seq_length = 4
        with pytest.raises(ValueError, match="fits into seq_length=4"):
            train_student(config, cached)
        assert not cached.student("knowdist").exists()


class TestEvaluate:
    def test_scores_and_predictions_agree(self, config, workdir):
        evaluate.evaluate_student("before", config, workdir)
        directory = workdir.evaluation("before")
        scores = json.loads((directory / "scores.json").read_text())["sets"]
        text = (directory / "predictions.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert list(scores) == ["held_out/reviews"]
        assert [(line["id"], line["gold"]) for line in lines] == [
            ("out0", "positive"), ("out1", "negative"),
        ]  # fmt: skip
        right = [line["gold"] == line["predicted"] for line in lines]
        assert scores["held_out/reviews"]["accuracy"] == pytest.approx(np.mean(right))
        for line in lines:
            likeliest = ("positive", "negative")[int(np.argmax(line["logprobs"]))]
            assert line["predicted"] == likeliest

    def test_a_student_is_calibrated_on_training_texts_as_the_teacher_is(self, config, workdir):
        evaluate.evaluate_student("before", config, workdir)
        margins = {}
        for name in ("before", "before-calibrated"):
            directory = workdir.evaluation(name)
            lines = (directory / "predictions.jsonl").read_text().splitlines()
            logprobs = np.array([json.loads(line)["logprobs"] for line in lines])
            margins[name] = logprobs[:, 0] - logprobs[:, 1]
            scores = json.loads((directory / "scores.json").read_text())["sets"]
            assert scores["held_out/reviews"]["auc"] == (margins[name][0] > margins[name][1])
        # The average probability of a label over the training texts becomes one half.
        mesh = make_mesh(config.mesh)
        loaded = load_model(config.student.source, mesh, dtype=np.dtype("float32"))
        model = LocalModel.on_mesh(loaded, mesh)
        texts = read_records(workdir.texts / "train.jsonl", UnlabelledText)
        scores = evaluate.zero_shot(model, "again")(texts)
        (moved, same) = margins["before-calibrated"] - margins["before"]
        assert moved == pytest.approx(same, abs=1e-4) and abs(moved) > 1e-3
        shares = 1 / (1 + np.exp(-(scores[:, 0] - scores[:, 1] + moved)))
        assert shares.mean() == pytest.approx(0.5, abs=1e-3)

    def test_without_calibration_texts_a_student_is_scored_as_it_is(self, config, workdir):
        config.evaluation.calibration_texts = 0
        evaluate.evaluate_student("before", config, workdir)
        assert [path.name for path in (workdir.root / "evaluation").iterdir()] == ["before"]

    def test_finished_scores_are_kept_and_never_taken_for_anothers(
        self, config, workdir, monkeypatch
    ):
        evaluate.evaluate_student("before", config, workdir)

        def not_again(*args, **kwargs):
            raise AssertionError("the model was loaded")

        monkeypatch.setattr(evaluate, "load_student", not_again)
        evaluate.evaluate_student("before", config, workdir)
        other = config.copy_and_resolve_references()
        other.student.layers = (0,)
        with pytest.raises(ArtifactMismatchError, match="model.student.layers was"):
            evaluate.evaluate_student("before", other, workdir)
        write_held_out(workdir, ("negative", "negative"))
        with pytest.raises(ArtifactMismatchError, match="held_out was"):
            evaluate.evaluate_student("before", config, workdir)

    def test_held_out_scores_are_resumed_set_by_set(self, config, workdir, monkeypatch):
        held_out = [
            UserText(f"out{i}", source, TEXTS[i], "held_out", label)
            for i, source in enumerate(("movie", "tweets"))
            for label in ("positive", "negative")
        ]
        write_records(workdir.texts / "held_out.jsonl", held_out, UserText)
        config.evaluation.calibration_texts = 0
        asked: list[str] = []
        label_logprobs = LocalModel.label_logprobs

        def counted(self, prompts, label_words, *, progress=None):
            asked.append(prompts[0])
            if len(asked) == 2:
                raise KeyboardInterrupt
            return label_logprobs(self, prompts, label_words, progress=progress)

        with monkeypatch.context() as patch:
            patch.setattr(LocalModel, "label_logprobs", counted)
            with pytest.raises(KeyboardInterrupt):
                evaluate.evaluate_student("before", config, workdir)
            evaluate.evaluate_student("before", config, workdir)
        assert len(asked) == 3 and asked[1] == asked[2] != asked[0]
        evaluate.evaluate_student("whole", config, workdir)
        one, other = (
            (workdir.evaluation(name) / "predictions.jsonl").read_bytes()
            for name in ("before", "whole")
        )
        assert one == other
        assert not (workdir.evaluation("before") / "parts").exists()

    def test_teacher_calibrated_uses_the_offsets_of_the_training_texts(self, config, workdir):
        with config.unlocked():
            config.annotate.priors.sentiment = (0.999, 0.001)
        corpus.annotate(config, workdir)
        evaluate.evaluate_teacher(config, workdir)
        predicted = {}
        for name in ("teacher-raw", "teacher-calibrated"):
            lines = (workdir.evaluation(name) / "predictions.jsonl").read_text().splitlines()
            predicted[name] = [json.loads(line)["logprobs"] for line in lines]
        offsets = json.loads((workdir.annotations / "offsets.json").read_text())["sentiment"][0]
        raw, calibrated = (np.array(values) for values in predicted.values())
        shift = offsets[0] - offsets[1]
        assert abs(shift) > 1
        moved = (calibrated[:, 0] - calibrated[:, 1]) - (raw[:, 0] - raw[:, 1])
        np.testing.assert_allclose(moved, shift, atol=1e-3)

    def test_texts_without_labels_cannot_be_scored(self, config, workdir):
        write_held_out(workdir, (None, None))
        with pytest.raises(ValueError, match="nothing to score.*set SENTIBENCH_DIR or add"):
            evaluate.evaluate_student("before", config, workdir)
        assert not workdir.evaluation("before").exists()
