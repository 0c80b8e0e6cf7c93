import math

import pytest

from sentidistill_jax.corpus import icldist, knowdist
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.teacher.filters import reject_reason, rewrite_agrees, without_end_marks

TEXT = UnlabelledText("t", "movie", "A quiet treasure indeed.")


def _reason(
    answer,
    *,
    perspective="analyse/reason",
    text=TEXT,
    stopped=True,
    style: knowdist.PromptStyle = "few_shot",
):
    prompt = knowdist.build_prompt(perspective, text, style=style)
    return reject_reason(prompt, text.text, answer, stopped=stopped)


@pytest.mark.parametrize(
    ("answer", "stopped", "reason"),
    [
        (" The writer praises the acting.\n", True, None),
        ("", True, "empty"),
        (" ... !!\n", True, "empty"),
        (" Positive.\n", True, "empty"),
        (" Rather good.\n", True, "empty"),  # two words
        (" Very good film\n", True, None),
        (" the same words and the same words and the same words and", False, "loop"),
        (" no no no no, it is not that bad\n", True, None),  # three repeats, but of two letters
        (" The writer praises the acting, the music and", False, "cut_off"),
        (" I'm sorry, I cannot say what it means.\n", True, "refusal"),
        (" The writer says that I'm sorry is not enough.\n", True, None),
        (" A quiet treasure, indeed\n", True, "copy"),
        (" Indeed, a treasure: QUIET!\n", True, "copy"),  # the same words in another order
        (" The quiet treasure indeed.\n", True, "copy"),
        (" A quiet treasure, indeed indeed\n", True, None),
        (" The writer is pleased.<|im_end|>\n", True, "special_token"),
        (" The writer is pleased.</s>\n", True, "special_token"),
        (" The writer is <very> pleased <3 |>\n", True, None),
    ],
)
def test_only_answers_worth_learning_pass(answer, stopped, reason):
    assert _reason(answer, stopped=stopped) == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        # Of the demonstrations about a shelf and a telephone call.
        (
            " The writer is pleased because clear instructions made the work easy.\n",
            "demonstration",
        ),
        (" The long wait ended without any help.\n", "demonstration"),
        # The manner of one demonstration, or of several, is what they are there to show.
        (" The writer is pleased because the treasure is quiet.\n", None),
        (" The writer is disappointed because it is too quiet.\n", None),
    ],
)
def test_phrases_of_a_demonstration_are_no_answer_about_the_text(answer, reason):
    assert _reason(answer) == reason


def test_words_of_the_text_may_be_those_of_a_demonstration():
    text = UnlabelledText("t", "own", "They say that clear instructions made the work quick.")
    assert _reason(" The writer says that clear instructions made the work.\n", text=text) is None


def test_without_demonstrations_nothing_can_be_copied_from_them():
    answer = "The long wait ended without any help."
    assert _reason(answer, style="chat") is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (' Positive: "quiet treasure" is praise.\n', None),
        (' Positive: "Quiet ... indeed" is praise.\n', None),  # left out in between
        (' Positive: "a true gem" is praise.\n', "misquote"),
        (" Positive: \u201ca true gem\u201d is praise.\n", "misquote"),
        (' Positive: "treasure quiet" is praise.\n', "misquote"),
        (' Positive: "treas" is praise.\n', "misquote"),
    ],
)
def test_analyses_quote_the_text(answer, reason):
    assert _reason(answer, perspective="analyse/polarity") == reason


def test_rewritten_texts_may_let_somebody_speak():
    assert _reason(' "What a gem," she said quietly.\n', perspective="rewrite/keep") is None


@pytest.mark.parametrize(
    ("task", "format", "answer", "reason"),
    [
        ("aspect", "tuples", " [('treasure', 'positive')]\n", None),
        ("aspect", "tuples", " []\n", None),
        ("aspect", "tuples", " [('treasure', 'precious')]\n", "malformed"),
        ("aspect", "tuples", " [('treasure', 'positive'\n", "malformed"),
        ("aspect", "dict", " [('treasure', 'positive')]\n", "malformed"),
        ("aspect", "dict", " {'lens': 'positive'}\n", "misquote"),
        # Categories and holders need not stand in the text; the rest must.
        ("quadruple", "tuples", " [('treasure', 'story', 'quiet', 'positive')]\n", None),
        ("quadruple", "tuples", " [('treasure', 'story', 'loud', 'positive')]\n", "misquote"),
        ("opinion", "plain", " writer | treasure | quiet | positive\n", None),
        ("topic", "plain", " treasure\n", None),
        ("topic", "plain", " \n", "empty"),
        ("summary", "plain", " Library closed in August for repairs.\n", "demonstration"),
    ],
)
def test_answers_to_tasks(task, format, answer, reason):
    shown = icldist.TASKS[task].seeds
    prompt = icldist.build_prompt(task, TEXT, shown, icldist.Style(1, 0, format))
    assert reject_reason(prompt, TEXT.text, answer, stopped=True) == reason


def test_a_demonstration_may_stand_at_the_very_front():
    minimal = icldist.build_prompt("summary", TEXT, icldist.TASKS["summary"].seeds[:1])
    answer = " Library closed in August for repairs."
    assert reject_reason(minimal, TEXT.text, answer, stopped=True) == "demonstration"


POSITIVE, NEGATIVE = (math.log(0.8), math.log(0.2)), (math.log(0.3), math.log(0.7))


@pytest.mark.parametrize(
    ("perspective", "same", "turned"),
    [
        ("rewrite/keep", True, False),
        ("rewrite/stronger", True, False),
        ("rewrite/flip", False, True),
        ("analyse/reason", True, True),
    ],
)
def test_rewritten_texts_have_the_sentiment_asked_for(perspective, same, turned):
    assert rewrite_agrees(perspective, POSITIVE, POSITIVE) == same
    assert rewrite_agrees(perspective, NEGATIVE, NEGATIVE) == same
    assert rewrite_agrees(perspective, POSITIVE, NEGATIVE) == turned
    assert rewrite_agrees(perspective, NEGATIVE, POSITIVE) == turned


def test_the_opposite_of_neutral_is_neutral():
    positive, neutral, negative = (-0.1, -3.0, -4.0), (-3.0, -0.1, -4.0), (-4.0, -3.0, -0.1)
    assert rewrite_agrees("rewrite/flip", positive, negative)
    assert rewrite_agrees("rewrite/flip", neutral, neutral)
    assert not rewrite_agrees("rewrite/flip", positive, neutral)
    with pytest.raises(ValueError, match="2 labels before and 3 after rewriting; score both in"):
        rewrite_agrees("rewrite/flip", POSITIVE, positive)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (" A gem.<|im_end|>", " A gem."),
        (" A gem.<|im_end|>\n<|endoftext|>\n", " A gem."),
        (" A gem.<end_of_turn>", " A gem."),
        (" A gem.\n", " A gem.\n"),
        (" A <|im_end|> gem.", " A <|im_end|> gem."),
    ],
)
def test_marks_of_the_end_are_no_part_of_an_answer(answer, kept):
    assert without_end_marks(answer) == kept
