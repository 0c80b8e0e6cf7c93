"""Prompts over the limit: refused, shortened, or left to the model to cut."""

import numpy as np
import pytest

from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.prompt_truncation import truncate_prompts
from sentidistill_jax.evaluation.task import Dataset

_TRAIN = tuple({"sentence": f"text {index}", "label": "positive"} for index in range(9))
_TEST = ({"sentence": "short", "label": "negative"}, {"sentence": "x " * 50, "label": "negative"})
DATA = Dataset(SENTIBENCH.task("sc/sst2"), _TRAIN, _TEST)


def _words(texts):
    return [len(text.split()) for text in texts]


def _truncate(limit, too_long, lengths_of=_words):
    return truncate_prompts(
        DATA, 42, 3, examples=2, limit=limit, too_long=too_long, lengths_of=lengths_of
    )


def _shown(prompt):
    return prompt.count("Sentence:") - 1


def test_prompts_that_fit_are_the_official_ones():
    found = _truncate(1000, "refuse")
    assert found.texts == [DATA.prompt(index, 42, 3) for index in range(2)]
    assert found.report["too_long"] == 0 and found.report["tokens_max"] == _words(found.texts)[1]


def test_a_prompt_as_long_as_the_limit_fits():
    longest = max(_words(_truncate(1000, "refuse").texts))
    assert _truncate(longest, "refuse").too_long == 0
    assert _truncate(longest - 1, "left_truncate").too_long == 1


def test_the_reference_never_truncates_so_neither_do_we_unless_asked():
    with pytest.raises(ValueError, match=r"1 of 2 prompts of sc/sst2 exceed 60 tokens .*\d+\); "):
        _truncate(60, "refuse")


def test_demonstrations_go_from_the_far_end_until_the_prompt_fits():
    whole = _truncate(1000, "refuse").texts
    limit = _words(whole)[1] - 1
    found = _truncate(limit, "drop_demonstrations")
    assert found.texts[0] == whole[0]
    assert [_shown(text) for text in found.texts] == [3, 2]
    assert found.texts[1] == DATA.prompt(1, 42, 3, dropped=1)
    assert whole[1].endswith(found.texts[1].split("\n\n", 1)[1])
    assert found.report == {
        "tokens_mean": np.mean(_words(found.texts)), "tokens_max": max(_words(found.texts)),
        "too_long": 1, "demonstrations_dropped": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="even without demonstrations"):
        _truncate(20, "drop_demonstrations")


def test_left_truncation_is_counted_and_left_to_the_model():
    found = _truncate(60, "left_truncate")
    assert found.texts == _truncate(1000, "refuse").texts
    assert found.report["too_long"] == 1 and found.report["tokens_max"] == 60


def test_a_model_that_tells_no_lengths_is_not_limited():
    report = _truncate(1, "refuse", lambda texts: None).report
    assert report["tokens_max"] is None and report["too_long"] == 0
