"""Workloads that the planner takes a config to describe."""

import dataclasses
from typing import Any

import pytest

from configs import base
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.planner.topology import Topology
from sentidistill_jax.planner.workloads import TrainWorkload
from sentidistill_jax.stages.plan import PlanOptions, plan, workload_of
from sentidistill_jax.workdir import Workdir


def planned(tmp_path, source: str, *, widths: dict[str, int] | None = None, **changes: Any):
    config: Any = base.get_config()
    config.student.update({"layers": ()} | changes, source=source)
    config.student.slice.update(**widths or {})
    workload = workload_of(config, Workdir(tmp_path), "train")
    assert isinstance(workload, TrainWorkload)
    return workload.model


def test_every_cut_of_the_student_is_planned(tmp_path):
    model = planned(
        tmp_path, "smollm2-135m-instruct", widths={"embed": 384, "mlp": 768, "kv_heads": 2},
        num_layers=8, layer_choice="importance", vocabulary="corpus", vocabulary_size=16_000,
    )  # fmt: skip
    full = PRESETS["smollm2-135m"]
    assert model == dataclasses.replace(
        full, embed_dim=384, mlp_dim=768, num_kv_heads=2, num_heads=6, num_layers=8,
        vocab_size=16_000, rms_norm_eps=full.rms_norm_eps * 576 / 384,
    )  # fmt: skip


def test_layers_keep_their_windows(tmp_path):
    model = planned(tmp_path, "gemma-3-1b", layers=(4, 5))
    assert (model.num_layers, model.sliding_layers) == (2, (True, False))
    model = planned(tmp_path, "gemma-3-1b", num_layers=2, layer_choice="even")
    assert model.sliding_layers == (True, True)  # the first and the last of 26
    assert planned(tmp_path, "gemma-3-1b") == PRESETS["gemma-3-1b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": "corpus"}, "leaves the number of tokens to the caches; set"),
        ({"layers": (26,)}, r"student.layers=\(26,\) must name layers from 0 to 25"),
        ({"widths": {"embed": 512}}, "student.slice.embed=512 cannot be done: .* of gemma3"),
        ({"widths": {"kv_heads": 2}}, "student.slice.kv_heads=2 must be 1 to 1"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        planned(tmp_path, "gemma-3-1b", **changes)


@pytest.mark.parametrize(
    ("workload", "changes", "message"),
    [
        (
            "train",
            {"global_batch_size": 24, "micro_batches": 2},
            r"data.global_batch_size=24 must be a multiple of 32 on v5e:4x4 \(mesh axes data x"
            r" fsdp = 16, times micro-batches = 2\); try 32\.",
        ),
        (
            "teach",
            {"seq_length": 512},
            r"teacher.tokens_per_batch / data.seq_length=4 must be a multiple of 16 on v5e:4x4",
        ),
        ("serve", {}, r"workload='serve' must be 'train' or 'teach'"),
    ],
)
def test_rows_that_devices_cannot_share_are_refused(tmp_path, workload, changes, message):
    config: Any = base.get_config()
    config.student.update(source="smollm2-135m")
    config.teacher.update(source="smollm2-135m", tokens_per_batch=2048, per_process=False)
    config.data.update(changes)
    options = PlanOptions(workload=workload)
    with pytest.raises(ValueError, match=message):
        plan(config, Workdir(tmp_path), Topology.parse("v5e:4x4"), options)


def test_a_teacher_for_each_host_is_planned_on_the_chips_of_one(tmp_path, capsys):
    config: Any = base.get_config()
    config.teacher.update(source="smollm2-135m", tokens_per_batch=3 * 512, per_process=True)
    config.data.seq_length = 512
    options = PlanOptions(workload="teach")
    with pytest.raises(ValueError, match="=3 must be a multiple of 4 on v5e:2x2"):
        plan(config, Workdir(tmp_path), Topology.parse("v5e:4x4"), options)
    assert "one of the 4 hosts of v5e:4x4 by itself" in capsys.readouterr().out
