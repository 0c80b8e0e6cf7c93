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
        "Turn the opinion around: positive becomes negative, negative becomes positive.\n"
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
        prefix = shared_prefix(name, wording, conditioned=verdict is not None)
        for text in (TEXT, other):
            prompt = build_prompt(name, text, wording, verdict)
            assert prompt.teacher_prompt.startswith(prefix + f"Text: {text.text}\n")


def test_a_chat_has_the_instruction_alone_and_room_for_several_lines():
    prompt = build_prompt("analyse/reason", TEXT, wording=1, verdict="positive", style="chat")
    assert prompt.teacher_prompt == (
        "Explain what causes the sentiment in the text. Write nothing but the answer.\n"
        "\n"
        "Text: A gem.\n"
        "Sentiment: positive"
    )
    assert prompt.prompt == (
        "Explain what causes the sentiment in the text.\n\nText: A gem.\nReason:\n"
    )
    assert (prompt.chat, prompt.multi_line, prompt.max_new_tokens) == (True, True, 0)
    assert not build_prompt("rewrite/headline", TEXT, style="chat").multi_line
    with pytest.raises(ValueError, match=r"style='zero_shot' must be one of \('few_shot', 'chat'"):
        build_prompt("analyse/reason", TEXT, style="zero_shot")  # type: ignore[arg-type]


def test_longer_answers_have_a_budget_of_their_own():
    prompt = build_prompt("analyse/free", TEXT)
    assert (prompt.chat, prompt.multi_line, prompt.max_new_tokens) == (False, False, 88)


def test_rewrites_alone_are_said_to_keep_or_turn_the_sentiment():
    for name, perspective in PERSPECTIVES.items():
        expected = "opposite" if name == "rewrite/flip" else "same"
        assert perspective.sentiment == (expected if name.startswith("rewrite/") else None)


def test_enough_perspectives_of_both_kinds():
    kinds = Counter(name.split("/")[0] for name in PERSPECTIVES)
    assert kinds == {"analyse": 16, "rewrite": 11}


@pytest.mark.parametrize("perspective", PERSPECTIVES.values(), ids=lambda one: one.name)
def test_written_examples_keep_the_rules(perspective):
    assert len(set(perspective.wordings)) >= 3
    verdicts = Counter(example.verdict for example in perspective.examples)
    assert verdicts == {"positive": 2, "negative": 2}
    for example in perspective.examples:
        # Answers in the manner of the examples must find room in their budget.
        most = perspective.max_new_tokens / 1.5 if perspective.max_new_tokens else 25
        assert len(example.answer.split()) <= most
        assert "\n" not in example.answer + example.text
