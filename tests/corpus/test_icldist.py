import random
from collections import Counter

import pytest

from sentidistill_jax.corpus.extraction_tasks import EXTRACTION_TASKS
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
from sentidistill_jax.corpus.items import parse_items
from sentidistill_jax.corpus.leakage import load_test_sentences, remove_leaks
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.sentiment_tasks import LABEL_TASKS
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
            Style(1, 0, "dict"),
            "Is the sentiment of the text positive or negative?\n"
            "Answer as a dict: {'sentiment': '...'}",
            " {'sentiment': 'negative'}",
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
        ("negation", TEXT, "yes"),
        ("negation", UnlabelledText("", "", "It isn't."), "yes"),
        ("negation", UnlabelledText("", "", "A notable one."), "no"),
        ("first_word", UnlabelledText("", "", '"Well-made", I say!'), "Well-made"),
        ("first_word", UnlabelledText("", "", "10/10"), None),
    ],
)
def test_computed_answers(task, text, answer):
    prompt = build_prompt(task, text, ())
    assert prompt.answer == (None if answer is None else f" {answer}")


def test_free_text_answer_in_json():
    prompt = build_prompt("first_word", TEXT, (), Style(1, 0, "json"))
    assert prompt.answer == ' {"first_word": "I"}'
    assert prompt.label_words == ()


@pytest.mark.parametrize(
    ("format", "header", "answer"),
    [
        (
            "tuples",
            "\nAnswer as a list of tuples: [('aspect', 'sentiment'), ...]",
            " [('cast', 'negative')]",
        ),
        ("dict", "\nAnswer as a dict: {'aspect': 'sentiment', ...}", " {'cast': 'negative'}"),
        (
            "json",
            '\nAnswer as JSON: [{"aspect": "...", "sentiment": "..."}, ...]',
            ' [{"aspect": "cast", "sentiment": "negative"}]',
        ),
        (
            "plain",
            "\nAnswer as: aspect | sentiment; aspect | sentiment; ... or none",
            " cast | negative",
        ),
    ],
)
def test_lists_of_tuples_in_every_format(format, header, answer):
    shown = Demonstration("So dull a cast.", (("cast", "negative"),))
    prompt = build_prompt("aspect", TEXT, [shown], Style(3, 0, format))
    assert prompt.prompt == (
        f"Give the aspects and the sentiment towards each.{header}\n\n"
        f"Input: So dull a cast.\nOutput:{answer}\n\n"
        "Input: I saw 2 films, not one.\nOutput:"
    )
    assert (prompt.label_words, prompt.answer) == ((), None)


def test_a_subject_stands_below_the_text():
    text = UnlabelledText("", "", "We really do adore Hale.")
    shown = Demonstration("Dunn again?", "against", "Dunn")
    assert build_prompt("stance", text, [shown]).prompt == (
        "Text: Dunn again?\nTarget: Dunn\nStance: against\n\n"
        "Text: We really do adore Hale.\nTarget: Hale\nStance:"
    )
    with pytest.raises(ValueError, match=r"task 'stance' needs a text with a target, and none was"):
        build_prompt("stance", UnlabelledText("", "", "So it goes."), ())


def test_enough_tasks_with_enough_variety():
    assert len(LABEL_TASKS) == 9 and len(EXTRACTION_TASKS) == 4 and len(GENERAL_TASKS) == 10
    assert len(TASKS) == 23
    assert len(TASKS["sentiment"].seeds) >= 24
    for task in (*LABEL_TASKS, *EXTRACTION_TASKS):
        assert len(task.seeds) >= 12
        # Instructions of a line, and of some sentences.
        lengths = [len(wording.instruction.split()) for wording in task.wordings[1:]]
        assert min(lengths) <= 20 and max(lengths) >= 30
    for task in TASKS.values():
        if task.labels and task.seeds:
            counts = Counter(seed.label for seed in task.seeds)
            assert set(counts) == set(task.labels)
            assert len(set(counts.values())) == 1


@pytest.mark.parametrize("task", EXTRACTION_TASKS, ids=lambda task: task.name)
def test_handwritten_tuples_keep_the_rules_that_the_teacher_is_held_to(task):
    polarities = Counter()
    for seed in task.seeds:
        for format in task.formats:
            answer = render_answer(task.name, seed.label, Style(1, 0, format))
            assert parse_items(answer, task.fields, format) == seed.label
        for item in seed.label:
            polarities[item[-1]] += 1
            for value, field in zip(item, task.fields, strict=True):
                assert not field.quoted or value in seed.text
    assert abs(polarities["positive"] - polarities["negative"]) <= 2
    assert polarities["neutral"] >= 1


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_task_tables_keep_their_rules(task):
    assert not task.wordings[0].instruction
    assert all(wording.instruction for wording in task.wordings[1:])
    assert len(task.wordings) >= 3
    assert (task.gold is None) == bool(task.seeds)
    for words in task.verbalizers:
        assert len(words) == len(task.labels)
        assert len(set(words)) == len(words)
    assert "letter" not in task.formats or task.labels
    assert bool(task.subject) == bool(task.subject_name)
    assert all(bool(seed.subject) == bool(task.subject) for seed in task.seeds)
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
    texts = {seed.text for task in TASKS.values() for seed in task.seeds}
    texts |= {example.text for one in PERSPECTIVES.values() for example in one.examples}
    return {"handwritten": sorted(texts)}


def test_handwritten_texts_are_in_no_user_text(real_texts):
    assert remove_leaks(real_texts.texts, _handwritten())[1].leaks == []


@pytest.mark.sentibench
def test_handwritten_texts_are_in_no_test_set(sentibench_dir):
    for dataset, sentences in load_test_sentences(sentibench_dir).items():
        texts = [UnlabelledText("", dataset, sentence) for sentence in sentences]
        assert remove_leaks(texts, _handwritten())[1].leaks == []
