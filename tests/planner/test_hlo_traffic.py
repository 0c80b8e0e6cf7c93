"""What goes through HBM: goldens of the forms that only the TPU compiler writes."""

import pytest

from sentidistill_jax.planner.hlo import Program
from sentidistill_jax.planner.hlo_traffic import hbm_traffic

# Two parts of a stack are read into memory on the chip, a third to HBM, and one array is copied.
SLICES = """\
%wrapped (param: f32[16,8,256]) -> f32[4,8,256] {
  %param = f32[16,8,256]{2,1,0:T(8,128)} parameter(0)
  ROOT %slice.9 = f32[4,8,256]{2,1,0:T(8,128)} slice(%param), slice={[8:12], [0:8], [0:256]}
}

ENTRY %main (stack: f32[16,8,256], x: f32[4,8,256]) -> f32[4,8,256] {
  %stack = f32[16,8,256]{2,1,0:T(8,128)} parameter(0)
  %x = f32[4,8,256]{2,1,0:T(8,128)} parameter(1)
  %slice-start.70 = ((f32[16,8,256]{2,1,0:T(8,128)}), f32[4,8,256]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%stack), slice={[0:4], [0:8], [0:256]}
  %slice-start.71 = ((f32[16,8,256]{2,1,0:T(8,128)}), f32[4,8,256]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%stack), slice={[4:8], [0:8], [0:256]}
  %copy-start.64 = (f32[4,8,256]{2,1,0:T(8,128)S(1)}, f32[4,8,256]{2,1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  %async-start.1 = ((f32[16,8,256]{2,1,0:T(8,128)}), f32[4,8,256]{2,1,0:T(8,128)}, s32[]{:S(2)}) async-start(%stack), calls=%wrapped
  %slice-done.70 = f32[4,8,256]{2,1,0:T(8,128)S(1)} slice-done(%slice-start.70)
  %slice-done.71 = f32[4,8,256]{2,1,0:T(8,128)S(1)} slice-done(%slice-start.71)
  %copy-done.64 = f32[4,8,256]{2,1,0:T(8,128)S(1)} copy-done(%copy-start.64)
  ROOT %async-done.1 = f32[4,8,256]{2,1,0:T(8,128)} async-done(%async-start.1)
}
"""  # noqa: E501
PART = 4 * 8 * 256 * 4


def test_parts_are_charged_as_parts_and_once():
    read, written = 4 * PART, PART
    assert hbm_traffic(Program(SLICES)) == read + written


@pytest.mark.parametrize("opcode", ["slice", "dynamic-slice"])
def test_a_part_that_is_awaited_at_once_costs_the_same(opcode):
    text = f"""\
ENTRY %main (stack: f32[16,8,256]) -> f32[4,8,256] {{
  %stack = f32[16,8,256]{{2,1,0:T(8,128)}} parameter(0)
  ROOT %part = f32[4,8,256]{{2,1,0:T(8,128)}} {opcode}(%stack), slice={{[0:4], [0:8], [0:256]}}
}}
"""
    assert hbm_traffic(Program(text)) == 2 * PART
