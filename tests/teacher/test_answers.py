import pytest

from sentidistill_jax.teacher.answers import reject_reason


@pytest.mark.parametrize(
    ("answer", "stopped", "reason"),
    [
        (" The writer praises the acting.\n", True, None),
        ("", True, "empty"),
        (" ... !!\n", True, "empty"),
        (" Positive.\n", True, "empty"),
        (" Very good\n", True, "empty"),  # two words
        (" Very good film\n", True, None),
        (" the same words and the same words and the same words and", False, "loop"),
        (" no no no no, it is not that bad\n", True, None),  # three repeats, but of two letters
        (" The writer praises the acting, the music and", False, "cut_off"),
        (" I'm sorry, I cannot say what it means.\n", True, "refusal"),
        (" The writer says that I'm sorry is not enough.\n", True, None),
        (" A quiet treasure, indeed\n", True, "copy"),
        (" Indeed, a treasure: QUIET!\n", True, "copy"),  # the same words in another order
        (" A quiet treasure, indeed indeed\n", True, None),
    ],
)
def test_only_answers_worth_learning_pass(answer, stopped, reason):
    assert reject_reason("A quiet treasure indeed.", answer, stopped=stopped) == reason
