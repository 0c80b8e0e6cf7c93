import random
from collections import Counter

import pytest

from sentidistill_jax.corpus import build
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText

TEXTS = [
    UnlabelledText(f"{n:03}", "movie", f"I liked film number {n} utterly.") for n in range(200)
]
LABELS = {"sentiment": {text.id: "negative" for text in TEXTS}}
# The teacher's labels in every task that needs them.
ALL_LABELS = {
    name: {text.id: task.labels[number % len(task.labels)] for number, text in enumerate(TEXTS)}
    for name, task in TASKS.items()
    if task.labels and task.gold is None
}


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
    options = {"labels": LABELS, "count": len(texts), "bare_fraction": 0.0} | options
    return build.build_icldist(texts, seed=seed, **options)


@pytest.mark.parametrize(
    ("stage", "options", "count"),
    [(_knowdist, {"per_text": 2}, 400), (_icldist, {"count": 150, "bare_fraction": 0.2}, 150)],
)
def test_prompts_depend_on_seed_and_text_but_not_on_order(stage, options, count):
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    ids = [prompt.id for prompt in stage(TEXTS, **options)]
    assert len(set(ids)) == count
    assert ids == [prompt.id for prompt in stage(TEXTS, **options)]
    assert sorted(ids) == sorted(prompt.id for prompt in stage(shuffled, **options))
    assert set(ids) != {prompt.id for prompt in stage(TEXTS, seed=1, **options)}


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


def test_icldist_uses_handwritten_demonstrations_where_the_teacher_writes_the_answer():
    prompts = _icldist(TEXTS, tasks={"quadruple": 1.0}, teacher_shots=(4, 8))
    seeds = {seed.text for seed in TASKS["quadruple"].seeds}
    assert len(prompts) == len(TEXTS)
    for prompt in prompts:
        assert sum(f"{seed}\n" in prompt.teacher_prompt for seed in seeds) in (4, 8)


def test_icldist_never_shows_the_text_itself_as_a_demonstration():
    for prompt in _icldist(TEXTS[:10], tasks={"sentiment": 1.0}):
        text = next(text for text in TEXTS if text.id == prompt.text_id)
        assert prompt.teacher_prompt.count(text.text) == 1


def test_bare_prompts_are_a_share_of_the_mixture_and_no_other_prompt_is_bare():
    prompts = _icldist(TEXTS, count=200, bare_fraction=0.25, labels=ALL_LABELS)
    assert len(prompts) == 200
    bare = [p for p in prompts if p.prompt.startswith("Review: ") and p.prompt.count("\n") == 1]
    assert len(bare) == 50
    assert {(p.kind, p.teacher_prompt == p.prompt, p.answer) for p in bare} == {
        ("sentiment", True, None)
    }
    with pytest.raises(ValueError, match=r"bare_fraction=25 must lie between 0 and 1"):
        _icldist(TEXTS, bare_fraction=25)


def test_icldist_divides_the_mixture_over_the_tasks_that_apply():
    prompts = _icldist(TEXTS, count=23 * 40, labels=ALL_LABELS)
    counts = Counter(prompt.kind for prompt in prompts)
    # Every text holds a target, a synonym and a word to explain, so that no task lacks texts.
    assert set(counts) == set(TASKS)
    assert counts.total() == 23 * 40 and max(counts.values()) - min(counts.values()) <= 1
    assert {prompt.format for prompt in prompts} == {"plain", "json", "tuples", "dict", "letter"}
    shots = Counter(prompt.prompt.count("I liked film") - 1 for prompt in prompts)
    assert {0, 1, 2, 4} <= set(shots)
    minimal = [prompt for prompt in prompts if prompt.wording == 0]
    assert len(minimal) / len(prompts) == pytest.approx(0.25, abs=0.04)
    # Nothing but demonstrations tells task and format there.
    for prompt in minimal:
        assert prompt.format == TASKS[prompt.kind].formats[0]
        assert "\n\n" in prompt.prompt


def test_tasks_may_be_left_out_of_the_mixture():
    left_out = ("sentiment", "irony")
    prompts = _icldist(TEXTS, count=200, bare_fraction=0, labels=ALL_LABELS, leave_out=left_out)
    assert {prompt.kind for prompt in prompts} == set(TASKS) - set(left_out)
    two = {"irony": 1.0, "stance": 1.0}
    prompts = _icldist(TEXTS, labels=ALL_LABELS, tasks=two, leave_out=["irony"])
    assert {prompt.kind for prompt in prompts} == {"stance"}
    with pytest.raises(
        ValueError, match=r"leave_out=\['sentiment'\] and icldist.bare_fraction=0.5"
    ):
        _icldist(TEXTS, labels=ALL_LABELS, bare_fraction=0.5, leave_out=["sentiment"])
    with pytest.raises(ValueError, match=r"task 'irny' is not known"):
        _icldist(TEXTS, labels=ALL_LABELS, leave_out=["irny"])


def test_a_student_reads_fewer_demonstrations_rather_than_a_longer_prompt():
    options = {"tasks": {"sentiment": 1.0}, "teacher_shots": (8,), "student_shots": (4,)}
    whole, cut = (_icldist(TEXTS, max_words=limit, **options) for limit in (0, 70))
    assert [prompt.teacher_prompt for prompt in whole] == [prompt.teacher_prompt for prompt in cut]
    assert {prompt.prompt.count("I liked film") for prompt in whole} == {5}
    assert max(len(prompt.prompt.split()) for prompt in whole) > 70
    assert max(len(prompt.prompt.split()) for prompt in cut) <= 70
    # An instruction of 40 words leaves no room for any.
    assert 0 < len(_icldist(TEXTS, max_words=40, **options)) < len(TEXTS)


def test_long_texts_are_no_demonstrations():
    long = UnlabelledText("long", "movie", "I liked film number 1000 " + "a lot " * 20)
    texts = [*TEXTS[:6], long]
    labels = {"sentiment": {text.id: "positive" for text in texts}}
    for prompt in _icldist(texts, labels=labels, tasks={"sentiment": 1.0}):
        assert prompt.teacher_prompt.count("1000") == (prompt.text_id == "long")


def test_labels_that_are_missing_leave_their_share_to_the_other_tasks():
    few = {"irony": dict.fromkeys([text.id for text in TEXTS[:3]], "sincere")}
    prompts = _icldist(TEXTS, count=40, labels=LABELS | few, tasks={"irony": 1.0, "sentiment": 1.0})
    assert Counter(prompt.kind for prompt in prompts) == {"irony": 3, "sentiment": 37}


def test_tasks_without_texts_are_left_out_or_refused():
    texts = [UnlabelledText("1", "own_file", "Why? Because.")]
    kinds = {prompt.kind for prompt in _icldist(texts, count=10, labels={})}
    assert kinds.isdisjoint({"domain", "question", "sentiment", "stance"})
    assert "summary" in kinds
    with pytest.raises(ValueError, match=r"task 'domain' applies to none of the 1 texts; leave it"):
        _icldist(texts, tasks={"domain": 1.0})


def test_stance_is_asked_about_a_target_of_the_text():
    texts = [UnlabelledText("1", "movie", "I love the soundtrack."), *TEXTS]
    labels = {"stance": {"1": "favor", **dict.fromkeys((t.id for t in TEXTS), "none")}}
    prompts = _icldist(texts, count=201, labels=labels, tasks={"stance": 1.0})
    prompt = next(prompt for prompt in prompts if prompt.text_id == "1")
    assert "I love the soundtrack.\nTarget: soundtrack\n" in prompt.prompt
    assert prompt.teacher_prompt.count("\nTarget: film\n") >= 3


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
        _icldist(TEXTS, labels={"irony": {"000": "irony"}})
