"""Against a program compiled here, and against the forms that only the TPU compiler writes."""

import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding

from sentidistill_jax.planner.hlo import Program
from sentidistill_jax.planner.hlo_traffic import (
    collectives,
    hbm_traffic,
    largest_buffers,
    replica_group,
    ring_bytes,
)

# A loop of 6 rounds (2 to 8) around a gather, a sum over a mesh axis in each, one asynchronous
# gather in two fusions, and a sum between two slices.
TPU = """\
HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%begin (p: bf16[4,256]) -> (bf16[4,256], bf16[16,256]) {
  %p = bf16[4,256]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.1 = bf16[16,256]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  ROOT %t = (bf16[4,256]{1,0}, bf16[16,256]{1,0}) tuple(%p, %all-gather.1)
}

%finish (p: bf16[4,256]) -> bf16[16,256] {
  %p = bf16[4,256]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.2 = bf16[16,256]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
}

%cond (state: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(8)
  %state = (s32[]{:T(128)}, f32[8]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state = (s32[]{:T(128)}, f32[8]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %v = f32[8]{0} get-tuple-element(%state), index=1
  %kernel = f32[8]{0} custom-call(%v), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block\\": 512}"
}}, metadata={op_name="jit(step)/kernel"}
  %all-reduce.1 = f32[8]{0} all-reduce(%kernel), channel_id=1, replica_groups=[2,4]<=[2,4], to_apply=%add
  ROOT %next = (s32[]{:T(128)}, f32[8]{0}) tuple(%i, %all-reduce.1)
}

ENTRY %main (p: bf16[4,256], v: f32[8]) -> f32[8] {
  %p = bf16[4,256]{1,0:T(8,128)(2,1)} parameter(0)
  %v = f32[8]{0} parameter(1)
  %token = token[] after-all()
  %send.1 = (f32[8]{0}, u32[], token[]) send(%v, %token), channel_id=1, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %start = (bf16[4,256]{1,0}, bf16[16,256]{1,0}) fusion(%p), kind=kCustom, calls=%begin
  %done = bf16[16,256]{1,0} fusion(%p), kind=kCustom, calls=%finish
  %two = s32[]{:T(128)} constant(2)
  %initial = (s32[]{:T(128)}, f32[8]{0}) tuple(%two, %v)
  %loop = (s32[]{:T(128)}, f32[8]{0}) while(%initial), condition=%cond, body=%body
  ROOT %result = f32[8]{0} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def devices(slices: int = 2):
    """Eight, four to a slice, in a row."""
    return [
        types.SimpleNamespace(coords=[n % 4, 0, 0], slice_index=n // 4 if slices > 1 else 0)
        for n in range(8)
    ]


def test_the_forms_of_the_tpu_compiler():
    program = Program(TPU)
    found = {(c.kind, c.network): c for c in collectives(program, devices())}
    assert program.unknown_trip_counts == 0
    loop = found["all-reduce", "ICI"]
    assert (loop.count, loop.group_size, loop.torus_dims) == (6, 4, 1)
    assert loop.sent_bytes == 6 * 2 * 32 * 3 / 4
    gather = found["all-gather", "ICI"]  # one, though two fusions carry it
    assert (gather.count, gather.sent_bytes) == (1, 16 * 256 * 2 * 3 / 4)
    between = found["all-reduce", "DCN"]
    assert (between.count, between.group_size, between.sent_bytes) == (1, 2, 2 * 32 * 1 / 2)
    assert len(found) == 3


def test_a_loop_of_unknown_length_is_counted_once_and_said_so():
    program = Program(TPU.replace("direction=LT", "direction=NE"))
    counts = {c.kind: c.count for c in collectives(program, devices()) if c.network == "ICI"}
    assert counts["all-reduce"] == 1 and program.unknown_trip_counts == 1


@pytest.mark.parametrize(
    ("attributes", "group"),
    [
        ("replica_groups={{0,1},{2,3}}", [0, 1]),
        ("replica_groups={}", list(range(8))),
        ("replica_groups=[4,2]<=[8]", [0, 1]),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", [0, 2, 4, 6]),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}", [0, 4]),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", list(range(8))),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", [0, 2]),
        ("replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", [0, 2, 4, 6]),
    ],
)
def test_groups_are_read_in_every_notation(attributes, group):
    assert replica_group(f", channel_id=1, {attributes}, dimensions={{0}}", 8) == group


def test_unknown_groups_are_an_error():
    with pytest.raises(ValueError, match="no known way"):
        replica_group("replica_groups=something", 8)


def test_ring_algorithms():
    assert ring_bytes("all-gather", 800, 8) == 700
    assert ring_bytes("all-reduce", 800, 8) == 1400
    assert ring_bytes("collective-permute", 800, 2) == 800


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
    program = Program(jax.jit(run).lower(rows, weights).compile().as_text() or "")
    (total,) = collectives(program, devices(slices=1))
    assert (total.kind, total.count, total.group_size) == ("all-reduce", 5, 8)
    assert total.sent_bytes == 5 * 2 * 64 * 4 * 7 / 8
    # Each matrix is read once, not all of them in every round.
    matrices = 5 * 64 * 64 * 4
    assert matrices < hbm_traffic(program) < 5 * matrices
    assert largest_buffers(program)[0].num_bytes >= 2 * 64 * 4
