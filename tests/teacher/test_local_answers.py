"""What a loaded teacher leaves in its cache, against a plain forward pass of a random model."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY, byte_tokenizer, make_manifest, random_model
from reciting_model import END, WORDS, reciting_model

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher import local_answers
from sentidistill_jax.teacher.annotate import Annotation, Annotator
from sentidistill_jax.teacher.answers import CaptureJob
from sentidistill_jax.teacher.local_answers import LocalAnswers, LocalTextAnswers
from sentidistill_jax.teacher.sentiment_check import SentimentCheck

TOKENIZER = byte_tokenizer(["positive", "negative", "A", "B"])
LENGTH = 256  # tokens that the plain forward pass is padded to
DEMONSTRATIONS = (Demonstration("Bad.", "negative"), Demonstration("Lovely.", "positive"))
TEXTS = [UnlabelledText(f"id{i}", "mine", text) for i, text in enumerate(["So good!", "Dull"])]
# The teacher's calibrated opinions: not its own raw ones, so that the two cannot be mixed up.
ANNOTATIONS = {
    ("sentiment", text.id): Annotation(
        "sentiment", text.id, "negative", (float(np.log(0.2)), float(np.log(0.8)))
    )
    for text in TEXTS
}
JSON = icldist.Style(wording=1, format="json")


JOB = CaptureJob(
    {text.id: text.text for text in TEXTS}, ANNOTATIONS, SamplingConfig(max_new_tokens=5), seed=0
)


@pytest.fixture(scope="module")
def model():
    mesh = make_mesh({}, jax.devices()[:1])
    return LocalModel.on_mesh(random_model(mesh, TOKENIZER), mesh, tokens_per_batch=1024)


@pytest.fixture
def unfiltered(monkeypatch):
    """What a random model writes is never worth learning; here its distributions are looked at."""
    monkeypatch.setattr(local_answers, "reject_reason", lambda *args, **options: None)


@pytest.fixture(scope="module")
def logits_of(model):
    decoder = model.loaded.decoder

    @jax.jit
    def padded(tokens):
        hidden, _ = decoder(tokens[None], jnp.arange(LENGTH)[None])
        return decoder.logits(hidden[0])

    def of(tokens):
        assert len(tokens) <= LENGTH
        return np.asarray(padded(np.pad(tokens, (0, LENGTH - len(tokens)))), np.float64)

    return of


def encode(text):
    return np.array(TOKENIZER(text)["input_ids"], np.int32)


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def records_of(model, prompts, manifest=None, job=JOB, sentiment=None) -> list[Any]:
    """What becomes of each answer: its record, or why there is none."""
    manifest = manifest or make_manifest(len(prompts))
    answers = LocalAnswers(model, job, manifest, sentiment=sentiment)
    found = {index: answer.outcome() for index, answer in answers.answers(prompts)}
    assert sorted(found) == list(range(len(prompts)))
    return [found[index] for index in range(len(prompts))]


def assert_is_the_forward_pass(record, prompt, logits_of, manifest, always_kept):
    """The record's targets are those of a teacher that reads its own prompt and this answer.

    Args:
      always_kept: Position -> ids that are there whatever their rank.
    """
    completion = record.tokens[record.completion_start :]
    teacher_prompt = encode(prompt.teacher_prompt)
    tokens = np.concatenate([teacher_prompt, completion])
    logits = logits_of(tokens)[len(teacher_prompt) - 1 : len(tokens) - 1]
    dense = log_softmax(logits)
    ends = np.cumsum(record.targets.counts)
    for row, (start, end) in enumerate(zip(ends - record.targets.counts, ends, strict=True)):
        ids = record.targets.ids[start:end]
        top = np.argsort(-dense[row])[: manifest.top_k]
        assert set(ids) == {*top.tolist(), int(completion[row]), *always_kept.get(row, ())}
        np.testing.assert_allclose(record.targets.logprobs[start:end], dense[row, ids], atol=1e-4)
        for column, temperature in enumerate(manifest.temperatures):
            rest = np.delete(log_softmax(logits[row] / temperature), ids)
            np.testing.assert_allclose(
                record.targets.tail_logprobs[row, column], np.logaddexp.reduce(rest), atol=1e-4
            )
    return dense


def assert_student_reads(record, prompt, completion):
    assert TOKENIZER.decode(record.tokens[: record.completion_start]) == prompt.prompt
    assert TOKENIZER.decode(record.tokens[record.completion_start :]) == completion
    assert (record.prompt_id, record.kind) == (prompt.id, prompt.kind)


@pytest.mark.parametrize("count", [2, 17])  # alone, and enough to share their beginning
def test_answers_made_of_label_words(model, logits_of, count):
    texts = [
        dataclasses.replace(TEXTS[i % 2], text=f"{TEXTS[i % 2].text} {i}") for i in range(count)
    ]
    prompts = [
        icldist.build_prompt("sentiment", text, DEMONSTRATIONS, JSON, student_shots=0)
        for text in texts
    ]
    assert len({prompt.teacher_prompt[:160] for prompt in prompts}) == 1
    manifest = make_manifest(count)
    for prompt, record in zip(prompts, records_of(model, prompts), strict=True):
        assert len(prompt.teacher_prompt) > len(prompt.prompt) + 50
        assert_student_reads(record, prompt, ' {"sentiment": "negative"}\n')
        position = len(encode(' {"sentiment": "'))
        words = [encode(word)[0] for word in ("positive", "negative")]
        dense = assert_is_the_forward_pass(
            record, prompt, logits_of, manifest, {position: map(int, words)}
        )
        assert record.labels is not None and record.labels.position == position
        np.testing.assert_array_equal(record.labels.ids, words)
        np.testing.assert_allclose(record.labels.raw_logprobs, dense[position, words], atol=1e-4)
        np.testing.assert_allclose(np.exp(record.labels.logprobs), [0.2, 0.8], rtol=1e-6)


def test_answers_that_are_computed(model, logits_of):
    chosen = Prompt(
        stage="icldist", kind="length", text_id="id0", prompt="Text: x\nLong?",
        teacher_prompt="Text: y\nLong? B\n\nText: x\nLong?", label_words=(" A", " B"),
        answer=" B", format="letter",
    )  # fmt: skip
    free = dataclasses.replace(chosen, label_words=(), answer=" one word")
    by_label, free_text = records_of(model, [chosen, free])
    manifest = make_manifest(2)

    assert_student_reads(by_label, chosen, " B\n")
    words = [int(encode(word)[0]) for word in chosen.label_words]
    assert_is_the_forward_pass(by_label, chosen, logits_of, manifest, {0: words})
    assert by_label.labels is not None
    np.testing.assert_allclose(np.exp(by_label.labels.logprobs), [0.02, 0.98], rtol=1e-5)

    assert_student_reads(free_text, free, " one word\n")
    assert_is_the_forward_pass(free_text, free, logits_of, manifest, {})
    assert free_text.labels is None


def free_prompt(number):
    return Prompt(
        stage="knowdist", kind="analyse/target", text_id="id0", prompt=f"What? {number}\nTarget:",
        teacher_prompt=f"What? 7\nTarget: x\n\nWhat? {number}\nTarget:",
    )  # fmt: skip


@pytest.mark.usefixtures("unfiltered")
def test_answers_that_the_teacher_writes(model, logits_of):
    prompts = [free_prompt(number) for number in range(3)]
    for prompt, record in zip(prompts, records_of(model, prompts), strict=True):
        assert TOKENIZER.decode(record.tokens[: record.completion_start]) == prompt.prompt
        dense = assert_is_the_forward_pass(record, prompt, logits_of, make_manifest(3), {})
        completion = record.tokens[record.completion_start :]
        np.testing.assert_array_equal(completion, dense.argmax(axis=-1))  # greedy
        newline = encode("\n")[0]
        assert newline not in completion[:-1]
        assert len(completion) == 5 or completion[-1] == newline
        assert record.labels is None


def test_bare_prompts_take_their_labels_from_annotation_without_a_forward_pass(model):
    prompt = icldist.build_prompt("sentiment", TEXTS[0], ())
    blind = dataclasses.replace(model, engine=None)
    (record,) = records_of(blind, [prompt])
    assert_student_reads(record, prompt, " negative\n")
    assert record.labels is not None and record.labels.position == 0
    np.testing.assert_allclose(np.exp(record.labels.logprobs), [0.2, 0.8], rtol=1e-5)
    np.testing.assert_array_equal(record.targets.counts, [2, 1])
    positive, negative, newline = encode(" positive negative\n")
    np.testing.assert_array_equal(record.targets.ids, sorted([positive, negative]) + [newline])
    probs = dict(zip(record.targets.ids, np.exp(record.targets.logprobs), strict=True))
    assert probs == {
        positive: pytest.approx(0.2, rel=1e-3),
        negative: pytest.approx(0.8, rel=1e-3),
        newline: pytest.approx(1, rel=1e-3),
    }
    # Some mass outside, or the reverse KL would be infinite.
    assert np.isfinite(record.targets.tail_logprobs).all()


def test_answers_that_are_known_need_no_forward_pass_where_they_are_not_scored(model):
    job = dataclasses.replace(JOB, score_known=False)
    styled = icldist.build_prompt("sentiment", TEXTS[0], DEMONSTRATIONS, JSON, student_shots=0)
    (record,) = records_of(dataclasses.replace(model, engine=None), [styled], job=job)
    assert_student_reads(record, styled, ' {"sentiment": "negative"}\n')
    position = len(encode(' {"sentiment": "'))
    assert record.labels is not None and record.labels.position == position
    np.testing.assert_allclose(np.exp(record.labels.logprobs), [0.2, 0.8], rtol=1e-5)
    certain = np.delete(record.targets.counts, position)
    np.testing.assert_array_equal(certain, np.ones(len(certain)))
    with pytest.raises(AttributeError):
        records_of(dataclasses.replace(model, engine=None), [styled])


def mixed_prompts():
    """Free text, answers of label words, and one that annotation has answered."""
    return [
        *(free_prompt(number) for number in range(2)),
        *(icldist.build_prompt("sentiment", text, DEMONSTRATIONS, JSON) for text in TEXTS),
        icldist.build_prompt("sentiment", TEXTS[1], ()),
    ]


@pytest.mark.usefixtures("unfiltered")
def test_top_p_keeps_the_smallest_set_that_covers_and_what_is_always_kept(model, logits_of):
    prompts = mixed_prompts()[:4]
    manifest = make_manifest(4, mode="top_p", top_p=0.05, top_k=40)
    sizes = []
    for prompt, record in zip(prompts, records_of(model, prompts, manifest), strict=True):
        completion = record.tokens[record.completion_start :]
        tokens = np.concatenate([encode(prompt.teacher_prompt), completion])
        dense = log_softmax(logits_of(tokens)[len(tokens) - len(completion) - 1 : -1])[
            : len(completion)
        ]
        always = {} if record.labels is None else {record.labels.position: record.labels.ids}
        ends = np.cumsum(record.targets.counts)
        for row, (start, end) in enumerate(zip(ends - record.targets.counts, ends, strict=True)):
            order = np.argsort(-dense[row])
            mass = np.cumsum(np.exp(dense[row, order]))
            size = min(int(np.argmax(mass >= 0.05)) + 1, 40)
            kept = {*order[:size].tolist(), int(completion[row]), *map(int, always.get(row, ()))}
            assert set(record.targets.ids[start:end].tolist()) == kept
            rest = np.delete(dense[row], list(kept))
            tail = record.targets.tail_logprobs[row, 0]
            np.testing.assert_allclose(tail, np.logaddexp.reduce(rest), atol=1e-4)
            sizes.append(size)
    assert min(sizes) < max(sizes) < 40


@pytest.mark.usefixtures("unfiltered")
class TestSampled:
    MANIFEST = make_manifest(5, mode="sampled", num_draws=30, temperatures=(1.0,))

    def test_targets_are_shares_of_draws_that_depend_on_the_prompt_alone(self, model):
        prompts = mixed_prompts()
        together = records_of(model, prompts, self.MANIFEST)
        for prompt, record in zip(prompts, together, strict=True):
            shares = np.exp(record.targets.logprobs)
            starts = np.cumsum(record.targets.counts) - record.targets.counts
            np.testing.assert_allclose(np.add.reduceat(shares, starts), 1, rtol=1e-5)
            np.testing.assert_allclose(30 * shares, np.rint(30 * shares), atol=1e-4)
            assert np.isneginf(record.targets.tail_logprobs).all()
            (alone,) = records_of(
                model, [prompt], dataclasses.replace(self.MANIFEST, num_prompts=1)
            )
            np.testing.assert_array_equal(alone.targets.ids, record.targets.ids)
            np.testing.assert_array_equal(alone.targets.logprobs, record.targets.logprobs)

    def test_their_average_is_the_teachers_distribution(self, model, logits_of):
        """Many draws at one position of many prompts that are alike but for their id."""
        prompts = [
            Prompt("icldist", "copy", f"id{i}", "Say A:", "Say A:", answer=" A") for i in range(40)
        ]
        manifest = dataclasses.replace(self.MANIFEST, num_prompts=40, num_draws=100)
        shares = np.zeros(TINY.vocab_size)
        for record in records_of(model, prompts, manifest):
            first = slice(0, record.targets.counts[0])
            shares[record.targets.ids[first]] += np.exp(record.targets.logprobs[first]) / 40
        tokens = encode("Say A:")
        probs = np.exp(log_softmax(logits_of(tokens)[len(tokens) - 1]))
        sigma = np.sqrt(probs * (1 - probs) / 4000)
        assert (np.abs(shares - probs) < 5 * sigma + 1e-3).all()

    def test_an_annotated_answer_draws_labels(self, model):
        record = records_of(model, mixed_prompts(), self.MANIFEST)[-1]
        positive, negative, newline = encode(" positive negative\n")
        first = dict(zip(record.targets.ids, np.exp(record.targets.logprobs), strict=True))
        assert set(record.targets.ids.tolist()) == {positive, negative, newline}
        assert first[negative] > first[positive]  # 0.8 to 0.2, from 30 draws
        assert record.targets.counts.tolist() == [2, 1]


@pytest.mark.parametrize(
    "change", [{"format": "json"}, {"teacher_prompt": "other"}, {"label_words": (" B", " A")}]
)
def test_other_prompts_are_not_taken_from_annotation(model, change):
    prompt = dataclasses.replace(icldist.build_prompt("sentiment", TEXTS[0], ()), **change)
    (record,) = records_of(model, [prompt])
    assert record.targets.counts[0] >= make_manifest(1).top_k


def test_a_label_that_annotation_lacks_is_an_error(model):
    text = UnlabelledText("id9", "mine", "Never seen.")
    prompt = icldist.build_prompt("sentiment", text, DEMONSTRATIONS)
    with pytest.raises(ValueError, match="needs the teacher's label of text id9 in task 'sentim"):
        records_of(model, [prompt])


def test_keys_tell_teacher_prompts_apart(model):
    few, many = (
        icldist.build_prompt("sentiment", TEXTS[0], DEMONSTRATIONS[:shots], JSON, student_shots=0)
        for shots in (1, 2)
    )
    assert few.prompt == many.prompt
    keys = {record.key for record in records_of(model, [few, many])}
    assert len(keys) == 2


@pytest.mark.usefixtures("unfiltered")
def test_sampled_answers_do_not_depend_on_their_neighbours(model):
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=5)
    job = dataclasses.replace(JOB, sampling=sampling, seed=3)
    prompts = [free_prompt(number) for number in range(3)]
    together = records_of(model, prompts, job=job)
    reversed_order = records_of(model, prompts[::-1], job=job)[::-1]
    for one, other in zip(together, reversed_order, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
    assert len({tuple(record.tokens[record.completion_start :]) for record in together}) > 1


def reciting(after, says=None):
    mesh = make_mesh({}, jax.devices()[:1])
    loaded = reciting_model(after) if says is None else reciting_model(after, says)
    return LocalModel.on_mesh(loaded, mesh, tokens_per_batch=1024)


def completion_of(model, record):
    return model.tokenizer.decode(record.tokens[record.completion_start :])


ASKED = Prompt("knowdist", "analyse/target", "id0", "What?", "What?")
LONGER = dataclasses.replace(JOB, sampling=SamplingConfig(max_new_tokens=8))
SENTENCE = f" {' '.join(WORDS)}"


def test_an_answer_is_filtered_as_it_comes(model):
    """A random model writes nothing worth learning, and a sentence is worth it if it ends."""
    assert records_of(model, [ASKED]) == ["empty"]
    says = reciting("?")
    assert records_of(says, [ASKED]) == ["cut_off"]  # before its newline
    (record,) = records_of(says, [ASKED], job=LONGER)
    assert completion_of(says, record) == f"{SENTENCE}\n"


@pytest.mark.parametrize("mode", ["top_k", "sampled"])
@pytest.mark.parametrize("says", [f"{SENTENCE}{END} positive\n", f"{SENTENCE}\n{END} positive"])
def test_an_answer_ends_where_the_teacher_ends_its_turn(says, mode):
    """Its mark is not learnt: what the student writes ends with a newline."""
    changes: dict[str, Any] = {"num_draws": 5, "temperatures": (1.0,)} if mode == "sampled" else {}
    manifest = make_manifest(1, mode=mode, **changes)
    model = reciting("?", says)
    (record,) = records_of(model, [ASKED], manifest, LONGER)
    assert completion_of(model, record) == f"{SENTENCE}\n"
    *_, newline = record.tokens
    likeliest = record.targets.ids[-record.targets.counts[-1] :][
        record.targets.logprobs[-record.targets.counts[-1] :].argmax()
    ]
    assert likeliest == newline
    assert len(record.targets.counts) == len(WORDS) + 1 == len(record.targets.tail_logprobs)
    answers = LocalTextAnswers(model, LONGER, TOKENIZER)
    ((_, text),) = answers.answers([ASKED])
    record = text.outcome()
    assert not isinstance(record, str)
    assert TOKENIZER.decode(record.tokens) == f"What?{SENTENCE}\n"


def test_a_special_token_inside_of_an_answer_is_not_learnt():
    other = dataclasses.replace(JOB, sampling=SamplingConfig(max_new_tokens=9))
    model = reciting("?", f" a warm and<pad>{END}")
    assert records_of(model, [ASKED], job=other) == ["special_token"]


def test_only_an_answer_of_several_lines_goes_on_after_a_newline():
    lines = dataclasses.replace(ASKED, multi_line=True)
    model = reciting("?", f" a warm and\n witty film{END} positive")
    one, several = records_of(model, [ASKED, lines], job=LONGER)
    assert completion_of(model, one) == " a warm and\n"
    assert completion_of(model, several) == " a warm and\n witty film\n"


def test_a_chat_is_asked_through_the_template():
    model = reciting(":", f"{SENTENCE}{END}")
    chat = dataclasses.replace(ASKED, chat=True)
    plain, record = records_of(model, [ASKED, chat], job=LONGER)
    assert isinstance(plain, str)  # without the template nothing makes the model talk
    assert completion_of(model, record) == f"{SENTENCE}\n"
    assert model.tokenizer.decode(record.tokens[: record.completion_start]) == "What?"
    mesh = make_mesh({}, jax.devices()[:1])
    untuned = LocalModel.on_mesh(random_model(mesh, TOKENIZER), mesh, tokens_per_batch=1024)
    with pytest.raises(ValueError, match="a chat needs a tokenizer with a chat template"):
        records_of(untuned, [chat])


def test_each_answer_keeps_to_its_own_budget():
    """A neighbour's budget changes nothing: alone each answer is the same."""
    model = reciting("?")
    tight = dataclasses.replace(ASKED, max_new_tokens=5)
    wide = dataclasses.replace(ASKED, max_new_tokens=6)
    cut, record = records_of(model, [tight, wide])
    assert [cut] == records_of(model, [tight]) == ["cut_off"]
    (alone,) = records_of(model, [wide])
    assert completion_of(model, record) == f"{SENTENCE}\n"
    np.testing.assert_array_equal(record.targets.ids, alone.targets.ids)
    np.testing.assert_array_equal(record.targets.logprobs, alone.targets.logprobs)


def test_a_rewritten_text_of_another_sentiment_than_asked_for_is_not_learnt():
    """The offsets make every text positive, and the user text was found to be negative."""
    model = reciting("?")
    check = SentimentCheck(
        Annotator(model, "sentiment", k_shot=0, draws=1), np.array([[9.0, -9.0]]), ANNOTATIONS
    )
    keep, flip, unknown = (
        dataclasses.replace(ASKED, kind=kind, text_id=text_id)
        for kind, text_id in (
            ("rewrite/keep", "id0"),
            ("rewrite/flip", "id0"),
            ("rewrite/keep", "x"),
        )
    )
    job = dataclasses.replace(LONGER, texts={**JOB.texts, "x": "Nobody labelled this."})
    found = records_of(model, [keep, flip, unknown, ASKED], job=job, sentiment=check)
    assert found[0] == "wrong_sentiment"
    assert [completion_of(model, record) for record in found[1:]] == [f"{SENTENCE}\n"] * 3
    tolerant = dataclasses.replace(job, tolerated=frozenset({"wrong_sentiment"}))
    (record,) = records_of(model, [keep], job=tolerant, sentiment=check)
    assert completion_of(model, record) == f"{SENTENCE}\n"
