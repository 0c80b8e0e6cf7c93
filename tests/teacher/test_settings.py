"""Which teacher a section of a config means, and what of it decides its answers."""

import os

import pytest

from sentidistill_jax.teacher.settings import TeacherSettings

LOCAL = {
    "source": "a", "dtype": "float32", "tokens_per_batch": 8, "max_num_seqs": 4,
    "per_process": True, "endpoint": {"base_url": ""},
}  # fmt: skip
SERVED = LOCAL | {"endpoint": {"base_url": "http://here:1/v1", "model": "m"}}


def test_a_local_teacher_is_its_weights_whatever_its_batches(tmp_path):
    teacher = TeacherSettings.from_section(LOCAL | {"source": str(tmp_path)})
    assert teacher.identity() == {"source": str(tmp_path), "dtype": "float32"}
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    first = teacher.made_from()
    weights.write_bytes(b"two")
    os.utime(weights, ns=(0, 0))
    assert first["weights"] != teacher.made_from()["weights"]
    assert first == teacher.made_from() | {"weights": first["weights"]}
    assert not teacher.spans_processes
    assert TeacherSettings.from_section(LOCAL | {"per_process": False}).spans_processes


def test_a_served_teacher_may_move_to_another_address():
    teacher = TeacherSettings.from_section(SERVED | {"per_process": False})
    moved = SERVED | {"endpoint": SERVED["endpoint"] | {"base_url": "http://there:2/v1"}}
    assert teacher.identity() == TeacherSettings.from_section(moved).identity()
    assert "here" not in str(teacher.identity())
    assert not teacher.spans_processes  # one process asks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int8"}, "teacher.dtype='int8' must be 'float32' or 'bfloat16'"),
        ({"endpoint": {"base_url": "here"}}, "endpoint.base_url='here' must be an address"),
    ],
)
def test_bad_fields_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TeacherSettings.from_section(LOCAL | changes)
