import pytest

from sentidistill_jax.teacher.filters import reject_reason


@pytest.mark.parametrize(
    ("answer", "stopped", "reason"),
    [
        (" The writer praises the acting.\n", True, None),
        (" Positive.\n", True, "empty"),
        (" the same words and the same words and the same words and", False, "loop"),
        (" The writer praises the acting, the music and", False, "cut_off"),
        (" I'm sorry, I cannot say what it means.\n", True, "refusal"),
        (" A quiet treasure, indeed\n", True, "copy"),
    ],
)
def test_only_answers_worth_learning_pass(answer, stopped, reason):
    assert reject_reason("A quiet treasure indeed.", answer, stopped=stopped) == reason
