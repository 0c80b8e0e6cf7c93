"""What a served teacher leaves in its cache, against the function that the server computes."""

import dataclasses

import numpy as np
import pytest
from helpers import byte_tokenizer, make_manifest
from served_model import ToyModel, serving

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import open_cache, verify
from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.endpoint.settings import EndpointError, EndpointSettings
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.teacher.annotate import Annotation, Annotator
from sentidistill_jax.teacher.answers import CaptureJob
from sentidistill_jax.teacher.capture import capture
from sentidistill_jax.teacher.sentiment_check import SentimentCheck
from sentidistill_jax.teacher.served_answers import ServedAnswers

TOKENIZER = byte_tokenizer(["positive", "negative"])
MODEL = ToyModel(TOKENIZER)
TEXT = UnlabelledText("id0", "mine", "So good!")
ANNOTATIONS = {
    ("sentiment", "id0"): Annotation(
        "sentiment", "id0", "negative", (float(np.log(0.2)), float(np.log(0.8)))
    )
}
SHOWN = (Demonstration("Bad.", "negative"), Demonstration("Lovely.", "positive"))
TOP_K = 4


def free_prompt(answer):
    """One that the toy model answers so; the student reads less than the teacher."""
    number = next(
        number
        for number in range(100)
        if MODEL.answer(f"Before. {number}\nOpinion:") == f" {answer}\n"
    )
    return Prompt(
        stage="knowdist", kind="analyse/target", text_id="id0", prompt=f"{number}\nOpinion:",
        teacher_prompt=f"Before. {number}\nOpinion:",
    )  # fmt: skip


FREE = free_prompt("a warm and witty film")
DULL = free_prompt("dull")
SHOTS = icldist.build_prompt("sentiment", TEXT, SHOWN, student_shots=0)  # " negative\n"
BARE = icldist.build_prompt("sentiment", TEXT, ())
COMPUTED = Prompt(
    stage="icldist", kind="length", text_id="id0", prompt="Text: x\nLong?", answer=" no",
    teacher_prompt="Text: x\nLong?",
)  # fmt: skip
PROMPTS = (FREE, SHOTS, BARE, COMPUTED)
COUNTS = {  # of these and DULL
    "analyse/target": {"kept": 1, "empty": 1}, "length": {"kept": 1}, "sentiment": {"kept": 2},
}  # fmt: skip


def encode(text):
    return TOKENIZER(text)["input_ids"]


def answers_of(server, journal, *, sentiment=None, tolerated=(), **settings):
    journal = journal if isinstance(journal, Journal) else Journal(journal)
    settings = {"api_key_env": "", "retries": 0, "top_logprobs": 8} | settings
    job = CaptureJob(
        {"id0": TEXT.text}, ANNOTATIONS, SamplingConfig(max_new_tokens=40), 0, frozenset(tolerated)
    )
    endpoint = Endpoint(EndpointSettings(server.url, **settings), journal)
    return ServedAnswers(endpoint, TOKENIZER, job, top_k=TOP_K, sentiment=sentiment)


def write(answers, prompts, directory, **changes):
    """Records by the id of their prompt, and counts of all prompts."""
    fields = dict(vocab_size=len(TOKENIZER), top_k=TOP_K, temperatures=(1.0,))
    counts = capture(answers, prompts, directory, make_manifest(len(prompts), **fields | changes))
    assert not verify(directory).problems
    return {record.prompt_id: record for record in open_cache(directory)}, counts


def assert_is_the_model(record, prompt, completion, forced):
    """Every kept logprob is the model's, after what the teacher reads.

    Args:
      forced: Position -> ids that are kept whatever their rank.
    """
    ids = np.array(encode(completion))
    np.testing.assert_array_equal(record.tokens, encode(prompt.prompt + completion))
    assert record.completion_start == len(encode(prompt.prompt))
    ends = np.cumsum(record.targets.counts)
    for row, end in enumerate(ends):
        dense = MODEL.logprobs(encode(prompt.teacher_prompt) + list(ids[:row]))
        kept = slice(end - record.targets.counts[row], end)
        listed = record.targets.ids[kept]
        assert set(listed) == {*np.argsort(-dense)[:TOP_K], *forced.get(row, ())}
        known = [i for i, one in enumerate(listed) if one in np.argsort(-dense)[:8]]
        np.testing.assert_allclose(
            record.targets.logprobs[kept][known], dense[listed[known]], atol=1e-5
        )
        mass = np.exp(record.targets.logprobs[kept]).sum() + np.exp(
            record.targets.tail_logprobs[row, 0]
        )
        assert mass == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("style", ["lists", "content", "vllm"])
def test_lists_of_every_style_become_the_models_distributions(style, tmp_path):
    with serving(MODEL) as server:
        server.style = style
        answers = answers_of(server, tmp_path / "journal.jsonl")
        assert answers.capabilities.token_targets
        assert answers.capabilities.prompt_logprobs == (style == "vllm")
        answers.ask([*PROMPTS, DULL])
        asked = len(server.asked)
    # 2 texts and 1 field to probe; 2 answers; then position by position, or all of a prompt at
    # once: the newline after the answer that lists do not have, " negative\n", " no\n".
    assert asked == 3 + 2 + (2 if style == "vllm" else 1 + 2 + 3)
    records, counts = write(answers, [*PROMPTS, DULL], tmp_path / "cache")  # the server is gone
    assert list(records) == [prompt.id for prompt in PROMPTS]
    assert counts == COUNTS

    assert_is_the_model(records[FREE.id], FREE, " a warm and witty film\n", {})
    assert records[FREE.id].labels is None
    words = encode(" positive") + encode(" negative")
    labelled = records[SHOTS.id]
    assert_is_the_model(labelled, SHOTS, " negative\n", {0: words})
    assert labelled.labels is not None and labelled.labels.position == 0
    np.testing.assert_array_equal(labelled.labels.ids, words)
    np.testing.assert_allclose(np.exp(labelled.labels.logprobs), [0.2, 0.8], rtol=1e-6)
    bounds = MODEL.logprobs(encode(SHOTS.teacher_prompt))
    assert (labelled.labels.raw_logprobs <= np.sort(bounds)[-8] + 1e-5).all()  # neither is listed
    assert_is_the_model(records[COMPUTED.id], COMPUTED, " no\n", {})
    np.testing.assert_array_equal(records[BARE.id].targets.counts, [2, 1])


def test_without_lists_the_text_alone_is_kept(tmp_path):
    with serving(MODEL) as server:
        server.lists_logprobs = False
        answers = answers_of(server, tmp_path / "journal.jsonl")
        assert not answers.capabilities.token_targets
        assert answers.capabilities.reason == "the server gives no logprobs"
        answers.ask([*PROMPTS, DULL])
        assert len(server.asked) == 2 + 2  # probes, and what only the teacher can answer
    records, counts = write(answers, [*PROMPTS, DULL], tmp_path / "cache", mode="text")
    assert counts == COUNTS
    for prompt, completion in ((FREE, " a warm and witty film\n"), (COMPUTED, " no\n")):
        record = records[prompt.id]
        np.testing.assert_array_equal(record.tokens, encode(prompt.prompt + completion))
        np.testing.assert_array_equal(record.targets.ids, encode(completion))
        np.testing.assert_allclose(np.exp(record.targets.logprobs), 1, rtol=1e-3)
    np.testing.assert_array_equal(records[SHOTS.id].targets.counts, [2, 1])
    labels = records[SHOTS.id].labels
    assert labels is not None
    np.testing.assert_allclose(np.exp(labels.logprobs), [0.2, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"top_logprobs": 0}, "endpoint.top_logprobs is 0"),
        ({"api": "chat"}, "a chat server reads its own prompt"),
    ],
)
def test_settings_that_give_text_alone(settings, reason, tmp_path):
    with serving(MODEL) as server:
        answers = answers_of(server, tmp_path / "journal.jsonl", **settings)
        assert not answers.capabilities.token_targets
        assert answers.capabilities.reason.startswith(reason)
        answers.ask([FREE])
    records, _ = write(answers, [FREE], tmp_path / "cache", mode="text")
    (record,) = records.values()
    text = str(TOKENIZER.decode(record.tokens[record.completion_start :]))
    assert text == " a warm and witty film\n"  # chat drops the space, the prompt wants it


def test_another_tokenizer_gives_text_alone(tmp_path):
    other = ToyModel(byte_tokenizer(["a", "warm", "for"]))
    with serving(other) as server:
        answers = answers_of(server, tmp_path / "journal.jsonl")
    assert not answers.capabilities.token_targets
    assert answers.capabilities.reason == "the server's tokenizer is not the student's"


def test_interrupted_it_asks_only_for_what_is_missing_and_gives_the_same_bytes(tmp_path):
    with serving(MODEL) as server:
        answers = answers_of(server, tmp_path / "whole.jsonl")
        answers.ask(PROMPTS)
        write(answers, PROMPTS, tmp_path / "whole")
        needed = len(server.asked)
    journal = Journal(tmp_path / "again.jsonl")
    with serving(MODEL) as server, journal:
        answers = answers_of(server, journal, concurrency=1)
        server.faults.extend([*["none"] * 3, 500])  # fails in the middle of the lists
        with pytest.raises(EndpointError, match="answers are kept"):
            answers.ask(PROMPTS)
        asked = len(server.asked)
    with serving(MODEL) as server:
        answers = answers_of(server, tmp_path / "again.jsonl")
        answers.ask(PROMPTS)
        assert asked - 1 + len(server.asked) == needed
    write(answers, PROMPTS, tmp_path / "again")
    whole, again = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("whole", "again")
    )
    assert whole == again


def test_lists_that_are_no_distribution_are_refused(tmp_path, monkeypatch):
    with serving(MODEL) as server:
        whole = MODEL.logprobs
        monkeypatch.setattr(MODEL, "logprobs", lambda ids: whole(ids) + 1)
        with pytest.raises(EndpointError, match="add up to 2.*set endpoint.top_logprobs=0"):
            answers_of(server, tmp_path / "journal.jsonl", retries=0)
    assert not (tmp_path / "journal.jsonl").exists()  # nothing to set aside once it is well


def test_the_fingerprint_is_what_the_server_calls_itself_and_was_asked(tmp_path):
    prints = {}
    with serving(MODEL) as server:
        for name, settings in {"a": {}, "b": {}, "c": {"top_logprobs": 5}}.items():
            server.names = ["toy-2"] if name == "b" else ["toy"]
            prints[name] = answers_of(server, tmp_path / name, **settings).fingerprint
    assert len(set(prints.values())) == 3
    with serving(MODEL) as server:
        assert answers_of(server, tmp_path / "d").fingerprint == prints["a"]


def test_a_rewritten_text_of_another_sentiment_than_asked_for_is_not_learnt(tmp_path):
    """The offsets make every text positive, and the user text was found to be negative."""
    keep, flip = (dataclasses.replace(FREE, kind=f"rewrite/{what}") for what in ("keep", "flip"))
    journal = Journal(tmp_path / "journal.jsonl")
    with serving(MODEL) as server:
        settings = EndpointSettings(server.url, api_key_env="", retries=0, top_logprobs=8)
        annotator = Annotator(EndpointModel(settings, journal), "sentiment", k_shot=0, draws=1)
        check = SentimentCheck(annotator, np.array([[99.0, -99.0]]), ANNOTATIONS)
        answers = answers_of(server, journal, sentiment=check)
        answers.ask([keep, flip])
        tolerant = answers_of(server, journal, sentiment=check, tolerated=["wrong_sentiment"])
        tolerant.ask([keep, flip])
    records, counts = write(answers, [keep, flip], tmp_path / "cache")
    assert list(records) == [flip.id]
    assert counts == {"rewrite/flip": {"kept": 1}, "rewrite/keep": {"wrong_sentiment": 1}}
    records, _ = write(tolerant, [keep, flip], tmp_path / "tolerant")
    assert sorted(records) == sorted([keep.id, flip.id])


def test_a_chat_is_not_had_with_a_server_of_completions(tmp_path):
    with serving(MODEL) as server:
        answers = answers_of(server, tmp_path / "journal.jsonl")
        with pytest.raises(ValueError, match="knowdist.style='chat' are messages"):
            answers.ask([dataclasses.replace(FREE, chat=True)])


@pytest.mark.parametrize("style", ["lists", "vllm"])
@pytest.mark.parametrize("between", ["", "\n"])
def test_an_answer_ends_where_the_teacher_ends_its_turn(style, between, tmp_path):
    """Its mark is not learnt: what the student writes ends with a newline."""
    said = f" a warm and{between} witty film"
    model = ToyModel(TOKENIZER, (f"{said}<pad>",), end="<pad>")
    prompt = dataclasses.replace(FREE, multi_line=bool(between), max_new_tokens=30)
    with serving(model) as server:
        server.style = style
        answers = answers_of(server, tmp_path / "journal.jsonl")
        answers.ask([prompt])
        asked = next(body for body in server.asked if body["max_tokens"] == 30)
        assert ("stop" in asked) == (not between)
    records, _ = write(answers, [prompt], tmp_path / "cache")
    record = records[prompt.id]
    assert TOKENIZER.decode(record.tokens[record.completion_start :]) == f"{said}\n"
    assert record.targets.counts[-1] == 1 and record.targets.counts[-2] == TOP_K
    assert record.targets.ids[-1] == record.tokens[-1] == encode("\n")[0]
