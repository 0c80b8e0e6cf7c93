"""The card of an exported student says what it scores, and how it came to be."""

import pathlib

from sentidistill_jax.reporting.model_card import model_card
from sentidistill_jax.reporting.runs import ModelScores

MADE_FROM = {
    "student": {"layers": [0, 1], "dtype": "float32"},
    "objective": {"name": "knowdist", "alpha": 0.5},
    "caches": {"knowdist": "abc|def"},
    "seed": 7,
}


def scored(name: str) -> ModelScores:
    of_set = {"f1": 0.8125, "interval_95": [0.8, 0.825], "examples": 100, "metric": "macro_f1"}
    scores = {"model": name, "sets": {"held_out/reviews": of_set}}
    return ModelScores(name, "run", pathlib.Path(), scores)


def test_scores_and_training_are_in_it():
    card = model_card(
        "student", parameters=1_234_567, fingerprint="f00d", made_from=MADE_FROM,
        scores=[scored("both")],
    )  # fmt: skip
    header, body = card.split("---\n")[1:3]
    assert "library_name: transformers" in header
    assert "# student" in body and "1,234,567 parameters" in body and "`f00d`" in body
    assert "| both | 81.2 [80.0, 82.5] |" in body
    assert "| objective.alpha | `0.5` |" in body
    assert '| cache of knowdist | `"abc\\|def"` |' in body
    assert "| seed | 7 |" in body


def test_what_is_not_known_is_said_to_be():
    card = model_card("m", parameters=1, fingerprint="f", made_from=None, scores=[])
    assert "Its training is not known here." in card
    assert "None were measured for these weights." in card
    assert "## Training" not in card
