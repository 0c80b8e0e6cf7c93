import pytest

from sentidistill_jax.planner.compile import (
    Compiled,
    arrays_of_trace,
    buffers_of_message,
    needed_bytes,
)
from sentidistill_jax.planner.hlo_collectives import Collective
from sentidistill_jax.planner.roofline import step_time, utilization
from sentidistill_jax.planner.topology import GIB, Topology
from sentidistill_jax.planner.workloads import Flops

TOPOLOGY = Topology.parse("2xv5e:16x16")  # 512 chips of 197 TFLOP/s


def compiled(*collectives: Collective) -> Compiled:
    return Compiled({}, True, 0, 0, {}, 819e9, collectives, (), 0, 0.0)


def test_a_step_by_hand():
    flops = Flops(model=512 * 197e12, hardware=1.5 * 512 * 197e12)
    time = step_time(
        compiled(
            Collective("all-gather", "ICI", 256, 2, False, 1, 180e9),  # four links of 45 GB/s
            Collective("all-reduce", "ICI", 16, 1, True, 1, 90e9),  # two
            Collective(
                "collective-permute", "ICI", 2, 1, True, 2, 60e9, 30e9
            ),  # one, or one each way
            Collective("all-reduce", "DCN", 2, 0, False, 1, 3.125e9),
        ),
        flops,
        TOPOLOGY,
    )
    assert (time.compute, time.hbm, time.ici, time.dcn) == (1.5, 1.0, 3.0, 1.0)
    assert (time.exposed_ici, time.exposed_dcn) == (1.0, 1.0)
    assert (time.overlapped, time.exposed, time.serial) == (3.0, 4.0, 5.5)
    assert time.bound_by == "ICI"
    assert utilization(flops, time.serial, TOPOLOGY) == pytest.approx(1 / 5.5)


MESSAGE = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in space hbm.
Used 16.83G of 15.75G hbm. Exceeded hbm capacity by 1.08G.

  Largest program allocations in hbm:

  1. Size: 3.91G
     Operator: op_name="jit(train_step)/dot_general"
     Shape: f32[8,1024,128256]{2,1,0:T(8,128)}
     Unpadded size: 3.91G
  2. Size: 512.0M
     Shape: bf16[2,4]{1,0}
"""


def test_the_compilers_refusal_is_read():
    assert needed_bytes(MESSAGE) == int(16.83 * GIB)
    first, second = buffers_of_message(MESSAGE)
    assert (first.shape, first.operator) == ("f32[8,1024,128256]", "jit(train_step)/dot_general")
    assert first.num_bytes == int(3.91 * GIB) and second.num_bytes == 512 * 2**20
    assert needed_bytes("INTERNAL: something else") is None
    other = "the total memory required for HLO temporaries (256.00G) exceeds available HBM (15.75G)"
    assert needed_bytes(other) == 256 * GIB


def test_without_a_list_of_buffers_the_largest_arrays_of_the_trace_are_named():
    text = "%0 = f(%1) : (tensor<16x64x8xf32>, tensor<4xi32>) -> tensor<16x64x8xbf16>\n tensor<f32>"
    first, second = arrays_of_trace(text, 4)
    assert (first.shape, first.num_bytes) == ("f32[16,64,8]", 16 * 64 * 8)
    assert (second.shape, second.operator) == ("bf16[16,64,8]", "over 4 devices")
