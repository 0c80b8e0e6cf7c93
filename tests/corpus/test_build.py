import random
from collections import Counter

import pytest

from sentidistill_jax.corpus import build
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText

TEXTS = [
    UnlabelledText(f"{n:03}", "movie", f"I liked film number {n} very much.") for n in range(200)
]
LABELS = {"sentiment": {text.id: "negative" for text in TEXTS}}


def test_distillation_texts_avoid_test_and_held_out_sentences():
    texts = [
        UserText("1", "movie", "This stands in a test set.", "train", "positive"),
        UserText("2", "movie", "A text that was held out, with more words.", "held_out"),
        UserText("3", "tweets", "RT: a text that was held out, with more words", "train"),
        UserText("4", "movie", "This one is free.", "train", "negative"),
    ]
    kept, report = build.distillation_texts(texts, {"sst2": ["this stands in a test set ."]})
    assert kept == [UnlabelledText("4", "movie", "This one is free.")]
    assert report.counts() == {
        "movie": {"sst2": {"exact": 1, "near": 0}},
        "tweets": {"held_out": {"exact": 0, "near": 1}},
    }


def _knowdist(texts, seed=0, **options):
    return build.build_knowdist(texts, seed=seed, **options)


def _icldist(texts, seed=0, **options):
    return build.build_icldist(texts, seed=seed, labels=LABELS, **options)


@pytest.mark.parametrize("stage", [_knowdist, _icldist])
def test_prompts_depend_on_seed_and_text_but_not_on_order(stage):
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    ids = [prompt.id for prompt in stage(TEXTS, per_text=2)]
    assert len(set(ids)) == 2 * len(TEXTS)
    assert ids == [prompt.id for prompt in stage(TEXTS, per_text=2)]
    assert sorted(ids) == sorted(prompt.id for prompt in stage(shuffled, per_text=2))
    assert set(ids) != {prompt.id for prompt in stage(TEXTS, seed=1, per_text=2)}


def test_knowdist_asks_from_different_perspectives_and_passes_the_verdict():
    prompts = _knowdist(TEXTS, per_text=3, verdicts={TEXTS[0].id: "negative"})
    kinds = {text.id: {p.kind for p in prompts if p.text_id == text.id} for text in TEXTS}
    assert all(len(found) == 3 for found in kinds.values())
    assert {prompt.kind for prompt in prompts} == set(PERSPECTIVES)
    for prompt in prompts:
        assert prompt.teacher_prompt.count("\nSentiment: ") == (5 if prompt.text_id == "000" else 0)


def test_weights_shift_the_mixture():
    weights = {"analyse/target": 9.0, "rewrite/flip": 1.0, "rewrite/keep": 0.0}
    counts = Counter(prompt.kind for prompt in _knowdist(TEXTS, perspectives=weights))
    assert set(counts) == {"analyse/target", "rewrite/flip"}
    assert 165 <= counts["analyse/target"] <= 195  # 180 +- 3.5 standard deviations


def test_icldist_demonstrations_carry_the_labels_that_were_passed_in():
    for prompt in _icldist(TEXTS, tasks={"sentiment": 1.0}, minimal_fraction=1.0):
        assert prompt.teacher_prompt.startswith("Review: I liked film number ")
        assert prompt.teacher_prompt.count("Sentiment: negative") >= 3
        assert "Sentiment: positive" not in prompt.teacher_prompt


def test_icldist_uses_handwritten_demonstrations_where_no_labels_were_passed_in():
    prompts = _icldist(TEXTS, tasks={"irony": 1.0})
    seeds = {seed.text for seed in TASKS["irony"].seeds}
    for prompt in prompts:
        assert sum(seed in prompt.teacher_prompt for seed in seeds) in (4, 8)


def test_icldist_never_shows_the_text_itself_as_a_demonstration():
    for prompt in _icldist(TEXTS[:10], tasks={"sentiment": 1.0}):
        text = next(text for text in TEXTS if text.id == prompt.text_id)
        assert prompt.teacher_prompt.count(text.text) == 1


def test_icldist_covers_tasks_styles_and_shots():
    prompts = _icldist(TEXTS, per_text=len(TASKS))
    # Every text here is a short statement from a film review, so all tasks apply to each.
    assert Counter(prompt.kind for prompt in prompts) == dict.fromkeys(TASKS, len(TEXTS))
    assert {prompt.format for prompt in prompts} == {"plain", "json", "tuples", "letter"}
    shots = Counter(prompt.prompt.count("I liked film") - 1 for prompt in prompts)
    assert {0, 1, 2, 4} <= set(shots)
    minimal = sum(prompt.wording == 0 for prompt in prompts) / len(prompts)
    assert minimal == pytest.approx(0.25, abs=0.03)
    # The student must be able to tell the format where it reads no demonstration.
    assert all(p.format == "plain" for p in prompts if p.wording == 0)


def test_tasks_that_do_not_apply_are_left_out():
    texts = [UnlabelledText("1", "own_file", "Why? Because.")]
    assert _icldist(texts, tasks={"domain": 1.0, "question": 1.0}, per_text=2) == []


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match=r"perspective 'rewrite/flop' is not known; expected one of"
    ):
        _knowdist(TEXTS, perspectives={"rewrite/flop": 1.0})
    with pytest.raises(
        ValueError, match=r"task 'sentimnt' is not known; expected one of sentiment"
    ):
        _icldist(TEXTS, tasks={"sentimnt": 1.0})
    with pytest.raises(
        ValueError, match=r"irony label 'irony' is not known; expected one of ironic"
    ):
        build.build_icldist(TEXTS, seed=0, labels={"irony": {"000": "irony"}})
