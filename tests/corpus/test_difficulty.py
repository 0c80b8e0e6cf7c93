"""Which texts are difficult for a student."""

import numpy as np
import pytest

from sentidistill_jax.corpus.difficulty import difficulty, hardest
from sentidistill_jax.corpus.user_texts import UnlabelledText


def test_difficulty_is_the_divergence_from_the_teacher():
    teacher = np.log([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    student = np.log([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    found = difficulty(teacher, student)
    assert found[0] == pytest.approx(0)
    assert found[1] == pytest.approx(0.8 * np.log(9))
    assert found[2] == pytest.approx(0.5 * np.log(1 / 0.36))


def test_each_source_keeps_its_share_of_the_hardest():
    texts = [UnlabelledText(f"{name}{i}", name, "x") for name in ("a", "b") for i in range(10)]
    nats = {text.id: float(text.id[1:]) * (10 if text.source == "a" else 1) for text in texts}
    nats.pop("a9")
    kept = hardest(reversed(texts), nats, 0.2)
    assert [text.id for text in kept] == ["a7", "a8", "b8", "b9"]
    assert [text.id for text in hardest(texts, nats, 0.001)] == ["a8", "b9"]
    assert len(hardest(texts, nats, 1.0)) == 19
