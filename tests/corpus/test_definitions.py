from dataclasses import replace

from sentidistill_jax.corpus.definitions import definitions_fingerprint
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.perspectives import PERSPECTIVES


def test_a_changed_definition_changes_the_fingerprint_where_it_is_used():
    flip = PERSPECTIVES["rewrite/flip"]
    edited = PERSPECTIVES | {"rewrite/flip": replace(flip, answer_name="Reverse")}
    assert definitions_fingerprint(edited, {}) != definitions_fingerprint(PERSPECTIVES, {})
    others = {"rewrite/keep": 1.0}
    assert definitions_fingerprint(edited, others) == definitions_fingerprint(PERSPECTIVES, others)


def _other_gold(text):
    return "yes"


def test_code_is_a_part_of_a_definition():
    used = {"negation": 1.0}
    edited = TASKS | {"negation": replace(TASKS["negation"], gold=_other_gold)}
    assert definitions_fingerprint(edited, used) != definitions_fingerprint(TASKS, used)
