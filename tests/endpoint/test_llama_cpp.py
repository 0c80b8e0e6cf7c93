"""The teacher behind llama.cpp's server against the same weights in this process.

llama.cpp multiplies 4-bit weights with activations rounded to 8 bits; the teacher here multiplies
dequantised weights in float32. So the two agree, but not to the last digit.
"""

import signal

import jax
import numpy as np
import pytest
from llama_server import free_port, llama_server, server_python

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import CacheManifest, open_cache
from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.endpoint.protocol import Request
from sentidistill_jax.endpoint.settings import EndpointError, EndpointSettings
from sentidistill_jax.inference.engine import ScoreRequest
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.inference.tokens import encode, encode_prompt
from sentidistill_jax.models.embedded import embedded_path
from sentidistill_jax.models.load import load_model
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotation
from sentidistill_jax.teacher.answers import CaptureJob
from sentidistill_jax.teacher.capture import capture, totals
from sentidistill_jax.teacher.served_answers import ServedAnswers

pytestmark = [pytest.mark.server, pytest.mark.smollm2]

TEXTS = [
    "A warm, witty film with a big heart.",
    "Dull, loud and far too long.",
    "The soup was cold; the waiter, rude!",
    "I've paid 1,299.50 for this, and it's worth it.",
    "Le café était délicieux, the staff less so.",
    "It is a film about dogs.",
]
TOP_K = 20
MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def python():
    return server_python()


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def settings(python, port, tmp_path_factory):
    with llama_server(
        python, embedded_path(MODEL), port, tmp_path_factory.mktemp("server") / "log"
    ):
        yield EndpointSettings(
            f"http://127.0.0.1:{port}/v1", api_key_env="", concurrency=2, top_logprobs=TOP_K
        )


@pytest.fixture(scope="module")
def model():
    mesh = make_mesh({}, jax.devices()[:1])
    loaded = load_model(MODEL, mesh)
    return LocalModel.on_mesh(loaded, mesh, tokens_per_batch=1024)


def in_process(model, rows):
    """For (prompt ids, completion ids) the full-vocabulary logprobs of every completion token."""
    vocab = np.arange(model.engine.config.vocab_size, dtype=np.int32)
    requests = [
        ScoreRequest(
            np.concatenate([prompt, completion]),
            len(prompt),
            len(completion),
            np.tile(vocab, (len(completion), 1)),
        )
        for prompt, completion in rows
    ]
    found = dict(model.engine.score(requests, k=1))
    return [np.asarray(found[index].chosen_logprobs) for index in range(len(rows))]


def report(what, differences):
    differences = np.abs(np.concatenate(differences))
    print(
        f"\n{what}: {len(differences)} logprobs, |llama.cpp - in process| mean"
        f" {differences.mean():.4f}, 99% {np.quantile(differences, 0.99):.4f}, max"
        f" {differences.max():.4f} nats"
    )
    return differences


def test_label_words_agree(settings, model):
    words = (" positive", " negative")
    shown = icldist.seed_demonstrations("sentiment", 4, 0)
    prompts = [
        icldist.build_prompt("sentiment", UnlabelledText("id", "mine", text), shown).teacher_prompt
        for text in TEXTS
    ]
    served = EndpointModel(settings).label_scores(prompts, words)
    ours = model.label_logprobs(prompts, words)
    assert served.answered.all()
    difference = report("label words", [(served.logprobs - ours).ravel()])
    assert difference.mean() < 0.2
    clear = np.abs(ours[:, 0] - ours[:, 1]) > 0.5
    assert clear.sum() >= 3
    np.testing.assert_array_equal(served.predicted[clear], ours.argmax(axis=1)[clear])


def test_lists_agree_at_every_token(settings, model):
    prompts = [f"Review: {text}\nIn one sentence, the reviewer feels" for text in TEXTS]
    endpoint = Endpoint(settings, Journal())
    answers = endpoint.answers([Request(prompt, 12) for prompt in prompts])
    rows, kept = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = encode_prompt(model.tokenizer, prompt)
        assert answer.prompt_tokens == len(ids)
        completion = encode(model.tokenizer, answer.text)
        if [token.name for token in answer.tokens] == [
            model.tokenizer.decode([one]) for one in completion
        ]:
            rows.append((ids, completion))
            kept.append(answer)
    assert len(kept) >= 4
    differences, same = [], []
    for answer, dense in zip(kept, in_process(model, rows), strict=True):
        for token, row in zip(answer.tokens, dense, strict=True):
            for name, logprob in token.candidates.items():
                (number, *others) = model.tokenizer(name, add_special_tokens=False)["input_ids"]
                if not others:
                    differences.append(np.array([logprob - row[number]]))
            same.append(model.tokenizer.decode([int(row.argmax())]) == token.name)
    difference = report(f"the {TOP_K} likeliest of {len(same)} tokens", differences)
    print(f"the same token is the likeliest at {np.mean(same):.1%}")
    assert difference.mean() < 0.2 and np.mean(same) > 0.85


def prompts_of():
    free = [
        Prompt(
            stage="knowdist",
            kind="analyse/polarity",
            text_id=f"id{number}",
            prompt=f"Review: {text}\nWhat the reviewer thinks, in one sentence:",
            teacher_prompt=f"Review: {text}\nWhat the reviewer thinks, in one sentence:",
        )  # fmt: skip
        for number, text in enumerate(TEXTS)
    ]
    shown = icldist.seed_demonstrations("sentiment", 2, 0)
    style = icldist.Style(wording=1, format="json")
    labels = [
        icldist.build_prompt("sentiment", UnlabelledText(f"id{n}", "mine", text), shown, style, 0)
        for n, text in enumerate(TEXTS[:2])
    ]
    return [*free, *labels]


ANNOTATIONS = {
    ("sentiment", f"id{number}"): Annotation("sentiment", f"id{number}", label, (-0.7, -0.7))
    for number, label in enumerate(("positive", "negative"))
}


def test_the_cache_is_the_in_process_teachers(settings, model, tmp_path):
    texts = {f"id{number}": text for number, text in enumerate(TEXTS)}
    job = CaptureJob(texts, ANNOTATIONS, SamplingConfig(max_new_tokens=40), seed=0)
    endpoint = Endpoint(settings, Journal(tmp_path / "journal.jsonl"))
    answers = ServedAnswers(endpoint, model.tokenizer, job, top_k=TOP_K)
    assert answers.capabilities.token_targets
    prompts = prompts_of()
    answers.ask(prompts)
    manifest = CacheManifest(
        teacher_fingerprint=answers.fingerprint,
        tokenizer_fingerprint="t",
        chat_template_fingerprint="c",
        corpus_fingerprint="p",
        vocab_size=model.engine.config.vocab_size,
        top_k=TOP_K,
        mode="top_k",
        temperatures=(1.0,),
        codec="fast",
        num_prompts=len(prompts),
        records_per_shard=4,
        config={},
    )
    counts = capture(answers, prompts, tmp_path / "cache", manifest)
    print(f"\n{dict(counts)}")
    found = totals(counts)
    assert found["kept"] >= 4 and sum(found.values()) == len(prompts)
    reader = open_cache(tmp_path / "cache")
    records = list(reader)
    by_id = {prompt.id: prompt for prompt in prompts}
    kept = [by_id[record.prompt_id] for record in records]
    assert set(prompts[-2:]) <= set(kept)
    rows = [
        (
            encode_prompt(model.tokenizer, prompt.teacher_prompt),
            record.tokens[record.completion_start :],
        )
        for prompt, record in zip(kept, records, strict=True)
    ]
    kl, differences, words = [], [], []
    for record, dense in zip(records, in_process(model, rows), strict=True):
        ids, logprobs = record.targets.pad(reader.max_entries)
        ours = np.where(logprobs > -np.inf, np.take_along_axis(dense, ids, axis=1), -np.inf)
        listed = logprobs > -np.inf
        if record.labels is not None:
            # Bounds of words that are not listed are no logprobs of the server.
            words.append(
                record.labels.raw_logprobs - dense[record.labels.position, record.labels.ids]
            )
            listed[record.labels.position] = False
        differences.append(logprobs[listed] - ours[listed])
        ours_tail = np.log1p(-np.exp(ours).sum(axis=1).clip(max=1 - 1e-7))
        p = np.exp(np.concatenate([logprobs, record.targets.tail_logprobs], axis=1))
        with np.errstate(invalid="ignore"):
            terms = p * (
                np.concatenate([logprobs, record.targets.tail_logprobs], axis=1)
                - np.concatenate([ours, ours_tail[:, None]], axis=1)
            )
        kl.append(np.where(p > 0, terms, 0).sum(axis=1))
    difference = report("entries of the cache", differences)
    report("label words in the cache", words)
    mean_kl = float(np.concatenate(kl).mean())
    print(f"KL(llama.cpp || in process), list and tail: mean {mean_kl:.5f} nats per token")
    assert difference.mean() < 0.2 and mean_kl < 0.02


def test_a_server_that_is_killed_midway_costs_nothing(python, port, model, settings, tmp_path):
    del settings  # the other server has a port of its own
    other = free_port()
    where = EndpointSettings(
        f"http://127.0.0.1:{other}/v1", model="smollm2", api_key_env="", concurrency=1, retries=0
    )
    requests = [Request(f"Review: {text}\nSentiment:", 24) for text in TEXTS * 2]
    requests = [Request(f"{i}. {r.prompt}", 24) for i, r in enumerate(requests)]
    with Journal(tmp_path / "journal.jsonl") as journal:
        endpoint = Endpoint(where, journal)
        with llama_server(python, embedded_path(MODEL), other, tmp_path / "log") as process:
            append = journal.append

            def append_and_kill(key, answer):
                append(key, answer)
                if len(journal) == 3:
                    process.send_signal(signal.SIGKILL)
                    process.wait()

            journal.append = append_and_kill
            with pytest.raises(EndpointError, match="no connection to .*3 answers are kept"):
                endpoint.ask(requests)
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert len(journal) == 3
        with llama_server(python, embedded_path(MODEL), other, tmp_path / "log"):
            answers = Endpoint(where, journal).answers(requests)
        assert len(journal) == len(requests)
    assert all(answer.text for answer in answers)
