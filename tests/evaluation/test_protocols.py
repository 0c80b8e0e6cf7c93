"""The evaluation section of a config, read as protocol and as settings of the model."""

from typing import Any

import pytest

from configs import base
from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.evaluation.protocols import answer_settings, protocol_of
from sentidistill_jax.evaluation.runner import Protocol
from sentidistill_jax.language_model import AnswerSettings


def section(**changes: Any) -> dict[str, Any]:
    config: Any = base.get_config()
    return config.evaluation.sentibench.to_dict() | changes


def test_the_default_is_the_published_protocol_in_whatever_room_a_model_has():
    assert protocol_of(section(), 0, 8192 + 150) == Protocol(SENTIBENCH)
    assert protocol_of(section(), 0, None).max_prompt_length >= 2**30
    assert answer_settings(section(), Protocol(SENTIBENCH)) == AnswerSettings()


def test_settings_reach_the_model():
    changes = {"chat_template": True, "clean_up_spaces": "no", "repetition_penalty": 1.1}
    asked = section(too_long="left_truncate", max_prompt_length=100, **changes)
    protocol = protocol_of(asked, 5, None)
    assert (protocol.examples, protocol.too_long) == (5, "left_truncate")
    assert answer_settings(asked, protocol) == AnswerSettings(
        chat_template=True,
        left_truncate_to=100,
        repetition_penalty=1.1,
        clean_up_spaces=False,
    )


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused():
    with pytest.raises(ValueError, match="max_prompt_length=900 must be 1 to 850: the model reads"):
        protocol_of(section(max_prompt_length=900), 0, 1000)


def test_a_way_to_clean_up_spaces_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="clean_up_spaces='maybe' must be one of"):
        answer_settings(section(clean_up_spaces="maybe"), Protocol(SENTIBENCH))
