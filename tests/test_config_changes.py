"""Configs with other values."""

from typing import Any

import pytest

from configs import base
from sentidistill_jax.settings import with_changes


def test_changes_make_a_locked_copy():
    config: Any = base.get_config()
    changed = with_changes(
        config,
        {"optimizer.learning_rate": 1e-5, "student.layers": [0, 3], "data.caches": {"icldist": 2}},
    )
    assert (changed.optimizer.learning_rate, config.optimizer.learning_rate) == (1e-5, 3e-4)
    assert changed.student.layers == (0, 3)
    assert changed.data.caches.to_dict() == {"icldist": 2} and not config.data.caches
    assert with_changes(changed, {"data.caches": {}}).data.caches.to_dict() == {}
    with pytest.raises((AttributeError, KeyError)):
        changed.typo = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.typo": 1}, "no field 'optimizer.typo'"),
        ({"typo.learning_rate": 1}, "no field 'typo.learning_rate'"),
        ({"seed.learning_rate": 1}, "no field 'seed.learning_rate'"),
        ({"optimizer.learning_rate": "fast"}, "learning_rate='fast' must be of type float"),
        ({"optimizer": {"learning_rate": 1.0}}, "optimizer is a section of fields"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        with_changes(base.get_config(), changes)
