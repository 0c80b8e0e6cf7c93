"""A plan in numbers and words, from a compiled program that is given."""

import dataclasses
import json

import pytest

from sentidistill_jax.data.loader import BatchShape
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.planner.compile import Compiled
from sentidistill_jax.planner.hlo_collectives import Collective
from sentidistill_jax.planner.hlo_traffic import Buffer
from sentidistill_jax.planner.report import Run, plan_text, plan_values, trial_line, trial_values
from sentidistill_jax.planner.search import Candidate, Trial
from sentidistill_jax.planner.topology import GIB, Topology
from sentidistill_jax.planner.workloads import TeachWorkload

TOPOLOGY = Topology.parse("v5e:4x4")
WORKLOAD = TeachWorkload(
    PRESETS["llama-3.2-1b"], BatchShape(16, 2048, 512), top_k=64, dtype="bfloat16"
)
CHIP = TOPOLOGY.chip
COMPILED = Compiled(
    mesh={"data": 1, "fsdp": 16, "tensor": 1},
    fits=True,
    peak_bytes=3 * GIB,
    limit_bytes=4 * GIB,
    resident={"parameters": GIB // 2, "batch": GIB // 4},
    hbm_traffic=2 * CHIP.hbm_bandwidth,  # two seconds
    collectives=(
        Collective("all-gather", "ICI", 16, 2, True, 24, 3 * 2 * CHIP.ici_link_bandwidth),  # three
        Collective("all-reduce", "ICI", 16, 2, False, 1, 1024),
    ),
    largest=(Buffer("f32[8,128256]", GIB, "jit(step)/" + "x" * 80),),
    unknown_trip_counts=1,
    seconds=12.0,
)
TOO_LARGE = dataclasses.replace(
    COMPILED, fits=False, peak_bytes=5 * GIB, collectives=(), hbm_traffic=0.0
)


def text_of(compiled: Compiled = COMPILED, run: Run = Run(0)) -> str:  # noqa: B008
    return plan_text(plan_values(WORKLOAD, TOPOLOGY, compiled, run), run)


def test_times_are_bounded_from_both_sides():
    values = plan_values(WORKLOAD, TOPOLOGY, COMPILED, Run(0))
    compute = WORKLOAD.flops().hardware / 16 / CHIP.peak_flops
    ici = 3 + 1024 / (2 * CHIP.ici_link_bandwidth)
    busy = {
        "compute": compute, "hbm": 2.0, "ici": ici, "dcn": 0.0,
        "exposed_ici": ici - 3, "exposed_dcn": 0.0,
    }  # fmt: skip
    assert values["busy_seconds"] == pytest.approx(busy)
    assert values["bound_by"] == "ICI"
    assert values["overlapped"]["step_seconds"] == pytest.approx(ici)
    assert values["exposed"]["step_seconds"] == pytest.approx(ici)
    assert values["serial"]["step_seconds"] == pytest.approx(2 + ici)
    assert values["serial"]["tokens_per_second"] == pytest.approx(16 * 2048 / (2 + ici))
    mfu = WORKLOAD.flops().model / (2 + ici) / 16 / CHIP.peak_flops
    assert values["serial"]["mfu"] == pytest.approx(mfu)
    assert "hours" not in values["serial"]
    assert json.loads(json.dumps(values)) == values


def test_a_run_takes_hours_and_a_price_where_one_is_given():
    values = plan_values(WORKLOAD, TOPOLOGY, COMPILED, Run(3600, 1.5, "USD"))
    serial = values["serial"]
    assert serial["hours"] == pytest.approx(serial["step_seconds"])
    assert serial["chip_hours"] == pytest.approx(16 * serial["hours"])
    assert serial["price"] == pytest.approx(1.5 * serial["chip_hours"])
    assert "price" not in plan_values(WORKLOAD, TOPOLOGY, COMPILED, Run(3600))["serial"]


def test_the_page_says_what_fits_and_what_it_takes():
    lines = text_of(run=Run(3600, 1.5, "USD")).splitlines()
    assert lines[:3] == [
        "v5e:4x4: 16 chips, 4 hosts, mesh data 1 x fsdp 16 x tensor 1",
        "memory     fits with 1.00 GiB to spare: peak 3.00 of 4.00 GiB per device",
        "           parameters 0.50, batch 0.25, the step itself 2.25 GiB",
    ]
    assert lines[3].startswith("             1.00 GiB  f32[8,128256]  ...xxx")
    sent = [line for line in lines if "MiB" in line]
    assert len(sent) == 1 and "24 x all-gather over 16, beside other work" in sent[0]  # no crumbs
    assert any("1 loops of unknown length count as one round" in line for line in lines)
    assert lines[-1].startswith("           price") and lines[-1].endswith(" USD")


def test_what_does_not_fit_has_no_times():
    values = plan_values(WORKLOAD, TOPOLOGY, TOO_LARGE, Run(100))
    assert not {"overlapped", "exposed", "serial", "busy_seconds"} & values.keys()
    lines = text_of(TOO_LARGE).splitlines()
    assert lines[1] == (
        "memory     does NOT fit: peak 5.00 of 4.00 GiB per device, 1.00 GiB too much"
    )
    assert len(lines) == 4


def test_trials_are_a_line_and_values_each():
    fits = Trial(Candidate(WORKLOAD, COMPILED.mesh), COMPILED)
    too_large = Trial(Candidate(WORKLOAD, COMPILED.mesh, "mesh.fsdp=2"), TOO_LARGE)
    assert trial_line(fits, TOPOLOGY) == "  fits peak   3.00 GiB    3000.0 ms  as configured"
    assert trial_line(too_large, TOPOLOGY).split() == "no peak 5.00 GiB mesh.fsdp=2".split()
    assert trial_values(fits, TOPOLOGY)["exposed_step_seconds"] == pytest.approx(3.0)
    assert trial_values(too_large, TOPOLOGY) == {
        "change": "mesh.fsdp=2", "fits": False, "peak_gib": 5.0, "exposed_step_seconds": None,
    }  # fmt: skip


def test_what_was_compiled_survives_its_json():
    assert Compiled.from_json(json.loads(json.dumps(dataclasses.asdict(COMPILED)))) == COMPILED
