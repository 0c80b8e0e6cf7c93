import pytest

from sentidistill_jax.corpus.targets import named_target
from sentidistill_jax.corpus.user_texts import UnlabelledText


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("I think that Lena Horn was right.", "Lena Horn"),
        ("We all went to see the Ghosts of Mars again.", "Ghosts of Mars"),
        ("this was Dunn's worst idea ever", "Dunn"),
        ("the battery life is a joke", "battery life"),
        ("The soundtrack saves this movie.", "soundtrack"),  # a part before the whole
        ("What a movie!", "movie"),
        ("On Monday we shall see.", None),
        ("He came on Sunday.", None),
        ("Council Votes Down The New Stadium Plan", None),  # a headline capitalises everything
        ("The well-scripted end of a cast-iron pan", None),
    ],
)
def test_named_target(text, target):
    assert named_target(UnlabelledText("1", "own", text)) == target


def test_one_of_several_targets_is_chosen_by_the_text_alone():
    texts = [UnlabelledText(str(n), "own", "Nice plot, dull cast.") for n in range(30)]
    chosen = [named_target(text) for text in texts]
    assert set(chosen) == {"plot", "cast"}
    assert chosen == [named_target(text) for text in texts]
