"""Prompts over the limit, and label bias taken out of scores."""

import numpy as np
import pytest

from sentidistill_jax.evaluation import calibration
from sentidistill_jax.evaluation.data import Dataset, development_set
from sentidistill_jax.evaluation.fitting import content_free_prompts, fit_prompts
from sentidistill_jax.evaluation.prompts import build_prompt
from sentidistill_jax.evaluation.tasks import get_task

_TRAIN = tuple({"sentence": f"text {index}", "label": "positive"} for index in range(9))
_TEST = ({"sentence": "short", "label": "negative"}, {"sentence": "x " * 50, "label": "negative"})
DATA = Dataset(get_task("sc/sst2"), _TRAIN, _TEST)


def _words(texts):
    return [len(text.split()) for text in texts]


def _fit(limit, too_long, lengths_of=_words):
    return fit_prompts(
        DATA, 42, 3, examples=2, limit=limit, too_long=too_long, lengths_of=lengths_of
    )


def _shown(prompt):
    return prompt.count("Sentence:") - 1


def test_prompts_that_fit_are_the_official_ones():
    fitted = _fit(1000, "refuse")
    assert fitted.texts == [build_prompt(DATA, index, 42, 3) for index in range(2)]
    assert fitted.report["too_long"] == 0 and fitted.report["tokens_max"] == _words(fitted.texts)[1]


def test_the_reference_never_truncates_so_neither_do_we_unless_asked():
    with pytest.raises(ValueError, match=r"1 of 2 prompts of sc/sst2 exceed 60 tokens .*\d+\); "):
        _fit(60, "refuse")


def test_demonstrations_go_from_the_far_end_until_the_prompt_fits():
    whole = _fit(1000, "refuse").texts
    limit = _words(whole)[1] - 1
    fitted = _fit(limit, "drop_demonstrations")
    assert fitted.texts[0] == whole[0]
    assert [_shown(text) for text in fitted.texts] == [3, 2]
    assert fitted.texts[1] == build_prompt(DATA, 1, 42, 3, dropped=1)
    assert whole[1].endswith(fitted.texts[1].split("\n\n", 1)[1])
    assert fitted.report == {
        "tokens_mean": np.mean(_words(fitted.texts)), "tokens_max": max(_words(fitted.texts)),
        "too_long": 1, "demonstrations_dropped": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="even without demonstrations"):
        _fit(20, "drop_demonstrations")


def test_left_truncation_is_counted_and_left_to_the_model():
    fitted = _fit(60, "left_truncate")
    assert fitted.texts == _fit(1000, "refuse").texts
    assert fitted.report["too_long"] == 1 and fitted.report["tokens_max"] == 60


def test_a_model_that_tells_no_lengths_is_not_limited():
    report = _fit(1, "refuse", lambda texts: None).report
    assert report["tokens_max"] is None and report["too_long"] == 0


def test_content_free_prompts_show_the_same_demonstrations():
    fitted = _fit(_words(_fit(1000, "refuse").texts)[1] - 1, "drop_demonstrations")
    free = content_free_prompts(DATA, 42, 3, fitted)
    for prompt, without in zip(fitted.texts, free, strict=True):
        before, after = prompt.rsplit("Sentence:", 1)[0], without.rsplit("Sentence:", 1)
        assert after == [before, " N/A\nLabel:"]


def test_development_items_come_from_the_training_split():
    found = development_set(DATA, 2)
    assert found.test == _TRAIN[-2:] and found.train == _TRAIN[:-2]


def test_contextual_calibration_undoes_what_the_prompt_says_of_nothing():
    logprobs = np.log([[0.6, 0.2], [0.3, 0.3]])
    free = np.log([[0.6, 0.2], [0.2, 0.4]])
    found = np.exp(calibration.contextual(logprobs, free))
    np.testing.assert_allclose(found, [[0.5, 0.5], [2 / 3, 1 / 3]])


def test_batch_calibration_divides_by_the_mean_prediction():
    probs = np.array([[0.9, 0.1], [0.7, 0.3]])
    found = np.exp(calibration.batch(np.log(3 * probs)))
    expected = probs / [0.8, 0.2]
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True))
