"""Reading tuples out of text, without trusting it."""

import pytest

from sentidistill_jax.evaluation.answers import (
    MAX_LITERAL_CHARS,
    ParseStatus,
    clean,
    close,
    distinct_tuples,
    read_lenient,
    read_literal,
    read_tuples,
)


def test_literal_limit_is_far_above_what_150_tokens_can_say():
    text = "x" * (MAX_LITERAL_CHARS - 2)
    assert read_literal(f"'{text}'") == text
    with pytest.raises(ValueError, match=r"has 65537 characters, expected at most 65536"):
        read_literal(f"'{text}x'")


@pytest.mark.parametrize("text", ["", "food", "f()", "[1", "1 + x", "{[]: 1}", "[" * 60_000])
def test_what_is_no_literal_is_refused_and_never_run(text):
    with pytest.raises(ValueError, match="is not a Python literal"):
        read_literal(text)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("```python\n[('a', 'b')]\n```", "[('a', 'b')]"),
        ("[\n('a', 'b')\n]", "[('a', 'b')]"),
        ("first\n Label: second ", "Label: second"),
    ],
)
def test_fences_and_all_lines_but_the_last_go(answer, kept):
    assert clean(answer) == kept
    assert clean(answer, drop_label=True) == kept.replace("Label: ", "")


def test_an_unclosed_answer_ends_after_its_last_tuple():
    assert close("[('a', 'b'), ('c") == "[('a', 'b')]"
    assert close("['a'") == "['a']"


def test_items_become_distinct_tuples_in_text_order():
    assert distinct_tuples(["ab", ("c",), "ab"]) == [("a", "b"), ("c",)]
    assert distinct_tuples({"ab": 1}) == [("a", "b")]
    for value in (5, [5], [["a"]]):
        with pytest.raises(TypeError):
            distinct_tuples(value)


@pytest.mark.parametrize(
    ("text", "tuples", "status"),
    [
        ("[('a',), ('a',)]", [("a",)], ParseStatus.OK),
        ("[('a',), ('b', ", [("a",)], ParseStatus.REPAIRED),
        ("[['a']]", [], ParseStatus.UNUSABLE),
        ("nothing", [], ParseStatus.UNREADABLE),
    ],
)
def test_tuples_are_read_or_repaired(text, tuples, status):
    assert read_tuples(text) == (tuples, status)


def test_lenient_reading_leaves_out_what_is_no_tuple_of_texts():
    assert read_lenient("So: [('a', 'b'), 5, ('c', 6), [['d']]] ok") == (
        [("a", "b"), ("d",)],
        ParseStatus.OK,
    )
    assert read_lenient('[["a", "b"], ["c')[1] is ParseStatus.REPAIRED
