from collections import Counter

import pytest

from sentidistill_jax.corpus.knowdist import build_prompt, shared_prefix
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.user_texts import UnlabelledText

TEXT = UnlabelledText("t1", "movie", "A gem.")


def test_prompts_in_full():
    prompt = build_prompt("rewrite/flip", TEXT, wording=1, verdict="positive")
    assert prompt.prompt == (
        "Turn the opinion around: positive becomes negative, negative becomes positive.\n"
        "\n"
        "Text: A gem.\n"
        "Opposite:"
    )
    assert prompt.teacher_prompt == (
        "Rewrite the text with the opposite sentiment.\n"
        "\n"
        "Text: The jokes land, the songs soar, and the cast is a joy.\n"
        "Sentiment: positive\n"
        "Opposite: The jokes fall flat, the songs drag, and the cast is a bore.\n"
        "\n"
        "Text: the picture is blurry and the speakers crackle\n"
        "Sentiment: negative\n"
        "Opposite: the picture is sharp and the speakers sound clear\n"
        "\n"
        "Text: Our waiter was quick, friendly and full of good advice.\n"
        "Sentiment: positive\n"
        "Opposite: Our waiter was slow, rude and of no help at all.\n"
        "\n"
        "Text: Rain again, and my whole weekend is ruined.\n"
        "Sentiment: negative\n"
        "Opposite: Sunshine again, and my whole weekend is perfect.\n"
        "\n"
        "Text: A gem.\n"
        "Sentiment: positive\n"
        "Opposite:"
    )
    assert (prompt.stage, prompt.kind, prompt.text_id, prompt.wording) == (
        "knowdist",
        "rewrite/flip",
        "t1",
        1,
    )
    assert prompt.label_words == ()


def test_without_a_verdict_no_demonstration_shows_one():
    prompt = build_prompt("rewrite/flip", TEXT)
    assert "Sentiment:" not in prompt.teacher_prompt
    assert prompt.prompt == build_prompt("rewrite/flip", TEXT, verdict="negative").prompt


@pytest.mark.parametrize("name", PERSPECTIVES)
@pytest.mark.parametrize("verdict", [None, "negative"])
def test_teacher_prompts_share_their_prefix(name, verdict):
    other = UnlabelledText("t2", "tweets", "Other words.")
    for wording in range(len(PERSPECTIVES[name].wordings)):
        prefix = shared_prefix(name, conditioned=verdict is not None)
        for text in (TEXT, other):
            prompt = build_prompt(name, text, wording, verdict)
            assert prompt.teacher_prompt.startswith(prefix + f"Text: {text.text}\n")


def test_enough_perspectives_of_both_kinds():
    kinds = Counter(name.split("/")[0] for name in PERSPECTIVES)
    assert kinds.total() >= 12
    assert kinds["analyse"] >= 6 and kinds["rewrite"] >= 6


@pytest.mark.parametrize("perspective", PERSPECTIVES.values(), ids=lambda one: one.name)
def test_written_examples_keep_the_rules(perspective):
    assert len(set(perspective.wordings)) >= 3
    verdicts = Counter(example.verdict for example in perspective.examples)
    assert verdicts == {"positive": 2, "negative": 2}
    for example in perspective.examples:
        assert len(example.answer.split()) <= 25
        assert "\n" not in example.answer + example.text
