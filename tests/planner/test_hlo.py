"""Loops and what they run, in a program compiled here and in forms of the TPU compiler."""

import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding

from sentidistill_jax.planner.hlo import Program
from sentidistill_jax.planner.hlo_collectives import collectives
from sentidistill_jax.planner.hlo_traffic import hbm_traffic, largest_buffers

# As the compiler writes the products that it interleaves with permutations: two rounds in one.
LOOP = """\
%body (state: (f32[8], u32[])) -> (f32[8], u32[]) {
  %by = u32[]{:T(128)} constant(2)
  %state = (f32[8]{0}, u32[]{:T(128)}) parameter(0)
  %value = f32[8]{0} get-tuple-element(%state), index=0
  %counter = u32[]{:T(128)} get-tuple-element(%state), index=1
  %next = u32[]{:T(128)} add(%counter, %by), metadata={op_name="jit(train_step)/dot_general"}
  ROOT %tuple.617 = (f32[8]{0}, u32[]{:T(128)}) tuple(%value, %next)
}

%cond (state: (f32[8], u32[])) -> pred[] {
  %limit = u32[]{:T(128)} constant(8)
  %state = (f32[8]{0}, u32[]{:T(128)}) parameter(0)
  %counter = u32[]{:T(128)} get-tuple-element(%state), index=1
  ROOT %compare.70 = pred[]{:T(512)} compare(%counter, %limit), direction=LT
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %first = u32[]{:T(128)} constant(0)
  %copied = u32[]{:T(128)} copy(%first)
  %initial = (f32[8]{0}, u32[]{:T(128)}) tuple(%p, %copied)
  %loop = (f32[8]{0}, u32[]{:T(128)}) while(%initial), condition=%cond, body=%body
  ROOT %result = f32[8]{0} get-tuple-element(%loop), index=0
}
"""


@pytest.mark.parametrize(
    ("changes", "rounds"),
    [
        ({}, 4),
        ({"constant(8)": "constant(7)"}, 4),
        ({"constant(2)": "constant(1)"}, 8),
        ({"direction=LT": "direction=LE"}, 5),
        ({"constant(0)": "constant(8)", "constant(8)": "constant(0)",
          "add(%counter, %by)": "subtract(%counter, %by)", "direction=LT": "direction=GT"}, 4),
        ({"constant(0)": "constant(7)", "constant(8)": "constant(0)",
          "constant(2)": "constant(-1)", "direction=LT": "direction=GE"}, 8),
        ({"%next = u32[]{:T(128)} add(%counter, %by)":
          "%more = u32[] add(%by, %counter)\n  %next = u32[] add(%more, %by)"}, 2),
        ({"direction=LT": "direction=NE"}, None),
        ({"add(%counter, %by)": "multiply(%counter, %by)"}, None),
        ({"add(%counter, %by)": "add(%counter, %counter)"}, None),
        ({"add(%counter, %by)": "subtract(%counter, %by)"}, None),
        ({"tuple(%p, %copied)": "tuple(%p, %elsewhere)"}, None),
    ],
)  # fmt: skip
def test_rounds_are_counted_by_the_increment(changes, rounds):
    text = LOOP
    for old in changes:
        text = text.replace(old, f"<{old}>")
    for old, new in changes.items():
        text = text.replace(f"<{old}>", new)
    program = Program(text)
    assert dict(program.scheduled()) == {"main": 1.0, "body": rounds or 1.0}
    assert program.unknown_trip_counts == (rounds is None)


def test_a_compiled_scan_counts_every_round():
    """Five rounds that each sum over eight devices and read one of five matrices."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, jax.P("x")), NamedSharding(mesh, jax.P())

    def run(rows, weights):
        def layer(rows, weight):
            rows = rows @ weight
            total = jax.lax.with_sharding_constraint(jnp.sum(rows, 0), whole)
            return rows + total[None], None

        return jax.lax.scan(layer, rows, weights)[0]

    rows = jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=split)
    weights = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=whole)
    line = [types.SimpleNamespace(coords=[n, 0, 0]) for n in range(8)]
    program = Program(jax.jit(run).lower(rows, weights).compile().as_text() or "")
    (total,) = collectives(program, line)
    assert (total.kind, total.count, total.group_size) == ("all-reduce", 5, 8)
    assert total.sent_bytes == 5 * 2 * 64 * 4 * 7 / 8
    # Each matrix is read once, not all of them in every round.
    matrices = 5 * 64 * 64 * 4
    assert matrices < hbm_traffic(program) < 5 * matrices
    assert largest_buffers(program)[0].num_bytes >= 2 * 64 * 4
