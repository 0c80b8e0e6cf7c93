"""What is sent: goldens of the forms that only the TPU compiler writes."""

import types

import pytest

from sentidistill_jax.planner.hlo import Program
from sentidistill_jax.planner.hlo_collectives import collectives, replica_group, ring_bytes

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
  %one = s32[]{:T(128)} constant(1)
  %above = s32[]{:T(128)} add(%i, %one)
  ROOT %next = (s32[]{:T(128)}, f32[8]{0}) tuple(%above, %all-reduce.1)
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


# A ring both ways, two steps a round: the second pair waits for the first.
RING = """\
ENTRY %main (p: bf16[1,128], q: bf16[1,128], x: f32[64,64]) -> f32[64,64] {
  %p = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %q = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %x = f32[64,64]{1,0:T(8,128)} parameter(2)
  %collective-permute-start.40 = (bf16[1,128]{1,0:T(8,128)(2,1)S(1)}, bf16[1,128]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%p), channel_id=4, source_target_pairs={{0,3},{1,0},{2,1},{3,2}}
  %collective-permute-start.42 = (bf16[1,128]{1,0:T(8,128)(2,1)S(1)}, bf16[1,128]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%q), channel_id=5, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  %work = f32[64,64]{1,0:T(8,128)} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %collective-permute-done.40 = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} collective-permute-done(%collective-permute-start.40)
  %collective-permute-start.41 = (bf16[1,128]{1,0:T(8,128)(2,1)S(1)}, bf16[1,128]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%collective-permute-done.40), channel_id=6, source_target_pairs={{0,3},{1,0},{2,1},{3,2}}
  %collective-permute-done.42 = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} collective-permute-done(%collective-permute-start.42)
  %collective-permute-done.41 = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} collective-permute-done(%collective-permute-start.41)
  ROOT %more = f32[64,64]{1,0:T(8,128)} add(%work, %x)
}
"""  # noqa: E501


def test_permutations_both_ways_share_the_time():
    ring = devices(slices=1)[:4]
    found = {c.asynchronous: c for c in collectives(Program(RING), ring)}
    assert (found[True].count, found[True].sent_bytes, found[True].paired_bytes) == (2, 512, 512)
    # The third starts while the second is under way, which has its partner, and no work follows.
    assert (found[False].count, found[False].sent_bytes, found[False].paired_bytes) == (1, 256, 0)
    one_way = RING.replace("{{0,1},{1,2},{2,3},{3,0}}", "{{0,3},{1,0},{2,1},{3,2}}")
    assert sum(c.paired_bytes for c in collectives(Program(one_way), ring)) == 0


# A sum of which each device keeps its part, written as a fusion; then two small sums that share the
# channel with it, and one that is spread over fusions with other work between.
SCATTER = """\
%all-reduce-scatter.7.clone.1 (input: f32[2048,4]) -> f32[512,4] {
  %input = f32[2048,4]{1,0:T(8,128)S(1)} parameter(0)
  %all-reduce.101 = f32[2048,4]{1,0:T(8,128)} all-reduce(%input), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %constant.1 = u32[] constant(0)
  %partition-id.36 = u32[] partition-id()
  ROOT %dynamic-slice.356 = f32[512,4]{1,0:T(8,128)S(1)} dynamic-slice(%all-reduce.101, %partition-id.36, %constant.1), dynamic_slice_sizes={512,4}
}

%fused_computation.406 (p: bf16[64,64]) -> (bf16[64,64], bf16[64,64]) {
  %p = bf16[64,64]{1,0} parameter(0)
  %all-reduce.133 = bf16[64,64]{1,0} all-reduce(%p), channel_id=16, replica_groups=[1,4]<=[4]
  ROOT %t = (bf16[64,64]{1,0}, bf16[64,64]{1,0}) tuple(%p, %all-reduce.133)
}

%async_collective_fusion.461 (p: bf16[64,64], x: f32[64,64]) -> (f32[64,64], bf16[64,64]) {
  %p = bf16[64,64]{1,0} parameter(0)
  %x = f32[64,64]{1,0} parameter(1)
  %all-reduce.135 = bf16[64,64]{1,0} all-reduce(%p), channel_id=16, replica_groups=[1,4]<=[4]
  %convolution = f32[64,64]{1,0} convolution(%x, %x), dim_labels=bf_io->bf
  ROOT %t = (f32[64,64]{1,0}, bf16[64,64]{1,0}) tuple(%convolution, %all-reduce.135)
}

%fused_computation.408 (p: bf16[64,64]) -> bf16[64,64] {
  %p = bf16[64,64]{1,0} parameter(0)
  ROOT %all-reduce.137 = bf16[64,64]{1,0} all-reduce(%p), channel_id=16, replica_groups=[1,4]<=[4]
}

ENTRY %main (g: f32[2048,4], p: bf16[64,64], x: f32[64,64]) -> bf16[64,64] {
  %g = f32[2048,4]{1,0:T(8,128)S(1)} parameter(0)
  %p = bf16[64,64]{1,0} parameter(1)
  %x = f32[64,64]{1,0} parameter(2)
  %fusion.403 = f32[512,4]{1,0:T(8,128)S(1)} fusion(%g), kind=kCustom, calls=%all-reduce-scatter.7.clone.1
  %all-reduce.163 = f32[1024,1]{0,1:T(1,128)S(1)} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}
  %all-reduce.165 = f32[1024,3]{1,0:T(8,128)S(1)} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}
  %start = (bf16[64,64]{1,0}, bf16[64,64]{1,0}) fusion(%p), kind=kCustom, calls=%fused_computation.406
  %begun = bf16[64,64]{1,0} get-tuple-element(%start), index=0
  %meanwhile = (f32[64,64]{1,0}, bf16[64,64]{1,0}) fusion(%begun, %x), kind=kCustom, calls=%async_collective_fusion.461
  %carried = bf16[64,64]{1,0} get-tuple-element(%meanwhile), index=1
  ROOT %done = bf16[64,64]{1,0} fusion(%carried), kind=kCustom, calls=%fused_computation.408
}
"""  # noqa: E501


def test_a_sum_that_is_cut_sends_half_of_one_that_is_not():
    found = collectives(Program(SCATTER), devices(slices=1)[:4])
    seen = {(c.kind, c.group_size): (c.count, c.sent_bytes, c.asynchronous) for c in found}
    assert seen == {
        ("reduce-scatter", 4): (1, 2048 * 4 * 4 * 3 / 4, False),
        ("all-reduce", 2): (2, 2 * 1024 * 4 * 4 / 2, False),
        ("all-reduce", 4): (1, 2 * 64 * 64 * 2 * 3 / 4, True),  # one, though three fusions carry it
    }
    no_work = SCATTER.replace("convolution(%x, %x), dim_labels=bf_io->bf", "bitcast(%x)")
    assert not any(c.asynchronous for c in collectives(Program(no_work), devices(slices=1)[:4]))


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


def test_a_sum_between_slices_ends_when_that_of_the_other_slice_is_here():
    text = """\
ENTRY %main (v: f32[8], x: f32[64,64]) -> f32[64,64] {
  %v = f32[8]{0} parameter(0)
  %x = f32[64,64]{1,0} parameter(1)
  %token = token[] after-all()
  %send.1 = (f32[8]{0}, u32[], token[]) send(%v, %token), channel_id=2, frontend_attributes={_xla_host_transfer_rendezvous="all-reduce.1_0",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done.1 = token[] send-done(%send.1), channel_id=2, frontend_attributes={_xla_host_transfer_rendezvous="all-reduce.1_0"}
  %recv.1 = (f32[8]{0}, u32[], token[]) recv(%token), channel_id=1, frontend_attributes={_xla_host_transfer_rendezvous="all-reduce.1_0"}
  %work = f32[64,64]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %recv-done.1 = (f32[8]{0}, token[]) recv-done(%recv.1), channel_id=1
  ROOT %more = f32[64,64]{1,0} add(%work, %x)
}
"""  # noqa: E501
    (between,) = collectives(Program(text), devices())
    assert (between.network, between.asynchronous) == ("DCN", True)
    other = 'channel_id=1, frontend_attributes={_xla_host_transfer_rendezvous="all-reduce.'
    (between,) = collectives(Program(text.replace(f"{other}1", f"{other}2")), devices())
    assert not between.asynchronous
