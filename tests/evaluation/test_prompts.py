import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentidistill_jax.evaluation.prompts import draw_demonstrations, extract_answer, is_complete

from .golden import read_vectors

# The expression the reference applies to the whole text, prompt included.
OFFICIAL_PATTERN = re.compile(r"Label:\s*(.*?)(?=\s*(?=Sentence:|\n|$))", re.DOTALL)


@pytest.mark.parametrize(
    ("generation", "answer"),
    [
        ("", ""),
        (" []", "[]"),
        ("\n\n [('a', 'b')] \t\nmore", "[('a', 'b')]"),
        (" ```python\n[]\n```", "```python"),
        (" [('a', 'b')]   Sentence: next", "[('a', 'b')]"),
        ("\nSentence: next\nLabel: []", ""),
        (" [('x Sentence: y', 'b')]", "[('x"),
        (" []\rmore\u2028still\n", "[]\rmore\u2028still"),
        (" Label: []", "Label: []"),
    ],
)
def test_answer(generation, answer):
    assert extract_answer(generation) == answer


def test_lenient_answer_keeps_its_lines():
    generation = " ```python\n[('a', 'b')]\n```\n\nSentence: next\nLabel: []"
    assert extract_answer(generation, lenient=True) == "```python\n[('a', 'b')]\n```"


pieces = st.sampled_from(["Sentence:", "Sentence", ":", "\n", " ", "\t", "\r", "\u2028", "a", "[]"])


@given(st.lists(pieces, max_size=12).map("".join))
def test_equals_the_official_expression(generation):
    assert extract_answer(generation) == OFFICIAL_PATTERN.findall("Label:" + generation)[0]


def test_long_generations_take_linear_time():
    spaces = " " * 1_000_000
    assert extract_answer(f"{spaces}a{spaces}b{spaces}") == f"a{spaces}b"


@pytest.mark.parametrize(
    ("generation", "complete"),
    [("", False), ("\n\n [('a',", False), (" []\n", True), (" [] Sentence:", True)],
)
def test_an_answer_is_complete_once_nothing_can_change_it(generation, complete):
    assert is_complete(generation) == complete


def test_draws_are_those_of_the_mersenne_twister():
    # random.seed(42); [random.sample(range(3000), 4) for _ in range(2)]
    expected = ((2619, 456, 102, 1126), (1003, 914, 571, 419))
    assert draw_demonstrations(3000, 1000, 42, 4)[:2] == expected


def test_demonstrations_depend_on_the_position_only():
    assert draw_demonstrations(30, 12, 1, 4)[:3] == draw_demonstrations(30, 3, 1, 4)
    assert draw_demonstrations(30, 12, 1, 4) != draw_demonstrations(30, 12, 2, 4)


@pytest.mark.golden
def test_official_answers(golden_dir):
    for row in read_vectors(golden_dir / "extract.jsonl"):
        assert extract_answer(row["generation"]) == row["extracted"], row
