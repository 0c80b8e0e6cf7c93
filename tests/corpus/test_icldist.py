import random
from collections import Counter

import pytest

from sentidistill_jax.corpus.general_tasks import GENERAL_TASKS
from sentidistill_jax.corpus.icldist import (
    MINIMAL,
    TASKS,
    Style,
    build_prompt,
    draw_demonstrations,
    render_answer,
    seed_demonstrations,
    shared_prefix,
)
from sentidistill_jax.corpus.leakage import load_test_sentences, remove_leaks
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.sentiment_tasks import SENTIMENT_TASKS
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText

TEXT = UnlabelledText("t1", "movie", "I saw 2 films, not one.")
SHOWN = (Demonstration("So dull.", "negative"), Demonstration("A gem.", "positive"))


def test_minimal_style_in_full():
    prompt = build_prompt("sentiment", TEXT, SHOWN, MINIMAL, student_shots=1)
    assert prompt.teacher_prompt == (
        "Review: So dull.\n"
        "Sentiment: negative\n"
        "\n"
        "Review: A gem.\n"
        "Sentiment: positive\n"
        "\n"
        "Review: I saw 2 films, not one.\n"
        "Sentiment:"
    )
    assert prompt.prompt == (
        "Review: A gem.\nSentiment: positive\n\nReview: I saw 2 films, not one.\nSentiment:"
    )
    assert prompt.label_words == (" positive", " negative")
    assert (prompt.answer_prefix, prompt.answer_suffix, prompt.answer) == ("", "", None)
    zero_shot = build_prompt("sentiment", TEXT, SHOWN, student_shots=0).prompt
    assert zero_shot == "Review: I saw 2 films, not one.\nSentiment:"


@pytest.mark.parametrize(
    ("style", "header", "answer"),
    [
        (
            Style(1, 1, "plain"),
            "Is the sentiment of the text good or bad?",
            " bad",
        ),
        (
            Style(1, 2, "json"),
            'Is the sentiment of the text great or terrible?\nAnswer as JSON: {"sentiment": "..."}',
            ' {"sentiment": "terrible"}',
        ),
        (
            Style(1, 0, "tuples"),
            "Is the sentiment of the text positive or negative?\n"
            "Answer as a list of tuples: [('sentiment', '...')]",
            " [('sentiment', 'negative')]",
        ),
        (
            Style(1, 0, "letter"),
            "Is the sentiment of the text positive or negative?\n(A) positive (B) negative",
            " B",
        ),
    ],
)
def test_formats_in_full(style, header, answer):
    prompt = build_prompt("sentiment", TEXT, SHOWN[:1], style)
    assert prompt.prompt == (
        f"{header}\n\nText: So dull.\nSentiment:{answer}\n\n"
        "Text: I saw 2 films, not one.\nSentiment:"
    )
    assert prompt.answer_prefix + prompt.label_words[1] + prompt.answer_suffix == answer
    assert (prompt.format, prompt.wording) == (style.format, style.wording)


def test_three_options_and_own_line_names():
    prompt = build_prompt("sentiment3", TEXT, (), Style(3, 0, "plain")).prompt
    assert prompt == (
        "Assign a sentiment label: positive, neutral or negative.\n\n"
        "Sentence: I saw 2 films, not one.\nLabel:"
    )


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        ("domain", TEXT, "movie"),
        ("domain", UnlabelledText("", "reviews", "Own file."), None),
        ("question", TEXT, "statement"),
        ("question", UnlabelledText("", "", "Why me?"), "question"),
        ("question", UnlabelledText("", "", "Why? Because."), None),
        ("length", TEXT, "short"),
        ("length", UnlabelledText("", "", "a b " * 7), None),
        ("length", UnlabelledText("", "", "a b " * 10), "long"),
        ("first_person", TEXT, "yes"),
        ("first_person", UnlabelledText("", "", "It is over."), "no"),
        ("number", TEXT, "yes"),
        ("number", UnlabelledText("", "", "Two films."), "no"),
        ("negation", TEXT, "yes"),
        ("negation", UnlabelledText("", "", "It isn't."), "yes"),
        ("negation", UnlabelledText("", "", "A notable one."), "no"),
        ("first_word", UnlabelledText("", "", '"Well-made", I say!'), "Well-made"),
        ("last_word", TEXT, "one"),
        ("last_word", UnlabelledText("", "", "10/10"), None),
    ],
)
def test_computed_answers(task, text, answer):
    prompt = build_prompt(task, text, ())
    assert prompt.answer == (None if answer is None else f" {answer}")


def test_free_text_answer_in_json():
    prompt = build_prompt("last_word", TEXT, (), Style(1, 0, "json"))
    assert prompt.answer == ' {"last_word": "one"}'
    assert prompt.label_words == ()


def test_enough_tasks_with_enough_variety():
    assert len(SENTIMENT_TASKS) >= 6 and len(GENERAL_TASKS) >= 6
    assert len(TASKS) == len(SENTIMENT_TASKS) + len(GENERAL_TASKS)
    assert len(TASKS["sentiment"].seeds) >= 24
    for task in SENTIMENT_TASKS:
        assert len(task.seeds) >= 12
        if task.labels:
            counts = Counter(seed.label for seed in task.seeds)
            assert set(counts) == set(task.labels)
            assert len(set(counts.values())) == 1


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_task_tables_keep_their_rules(task):
    assert not task.wordings[0].instruction
    assert all(wording.instruction for wording in task.wordings[1:])
    assert len(task.wordings) >= 3
    assert (task.gold is None) == bool(task.seeds)
    for words in task.verbalizers:
        assert len(words) == len(task.labels)
        assert len(set(words)) == len(words)
    assert ("letter" in task.formats) == bool(task.labels)
    # Equal questions must not ask for different answers.
    assert len({wording.instruction for wording in task.wordings}) == len(task.wordings)


def test_seed_draws_are_balanced_fixed_and_different():
    draw = seed_demonstrations("sentiment", 16, draw=3)
    assert draw == seed_demonstrations("sentiment", 16, draw=3)
    assert draw != seed_demonstrations("sentiment", 16, draw=4)
    assert Counter(one.label for one in draw) == {"positive": 8, "negative": 8}
    # Neither the last label nor a regular change of labels may give the answer away.
    orders = [[one.label for one in seed_demonstrations("sentiment", 16, n)] for n in range(10)]
    assert {order[-1] for order in orders} == {"positive", "negative"}
    assert all(order[::2] != order[:1] * 8 for order in orders)
    with pytest.raises(ValueError, match=r"count=25 is more than the 24 handwritten"):
        seed_demonstrations("sentiment", 25)


def test_odd_counts_favour_no_label_and_small_groups_are_filled_up():
    groups = [[Demonstration(f"{label}{n}", label) for n in range(5)] for label in "ab"]
    extra = Counter(
        max("ab", key=[one.label for one in draw_demonstrations(groups, 3, rng)].count)
        for rng in map(random.Random, range(40))
    )
    assert min(extra["a"], extra["b"]) > 5
    drawn = draw_demonstrations([groups[0][:1], groups[1]], 4, random.Random(0))
    assert Counter(one.label for one in drawn) == {"a": 1, "b": 3}


def test_teacher_prompts_share_their_prefix():
    shown = seed_demonstrations("emotion", 4)
    style = Style(2, 1, "letter")
    prompt = build_prompt("emotion", TEXT, shown, style)
    assert prompt.teacher_prompt.startswith(shared_prefix("emotion", shown, style))
    assert render_answer("emotion", "joy", style) == " B"


def _handwritten() -> dict[str, list[str]]:
    texts = {seed.text for task in SENTIMENT_TASKS for seed in task.seeds}
    texts |= {example.text for one in PERSPECTIVES.values() for example in one.examples}
    return {"handwritten": sorted(texts)}


def test_handwritten_texts_are_in_no_user_text(real_texts):
    assert remove_leaks(real_texts.texts, _handwritten())[1].leaks == []


@pytest.mark.sentibench
def test_handwritten_texts_are_in_no_test_set(sentibench_dir):
    for dataset, sentences in load_test_sentences(sentibench_dir).items():
        texts = [UnlabelledText("", dataset, sentence) for sentence in sentences]
        assert remove_leaks(texts, _handwritten())[1].leaks == []
