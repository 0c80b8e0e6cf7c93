"""What a loop reports of its own speed."""

import jax.numpy as jnp
import pytest

from sentidistill_jax.training import throughput
from sentidistill_jax.training.throughput import Speed, device_memory, peak_flops


def test_speed_is_per_step(monkeypatch):
    clock = iter([100.0, 200.0, 204.0, 205.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    speed = Speed(flops_per_step=6e9, peak_flops=10e9)
    speed.start()
    assert speed.scalars(1000) == {
        "speed/seconds_per_step": 4.0,
        "speed/tokens_per_second": 250.0,
        "speed/model_flops_utilisation": pytest.approx(0.15),
    }
    assert speed.scalars(1000)["speed/seconds_per_step"] == 1.0


def test_the_peak_is_a_rate_of_this_machine():
    assert 1e7 < peak_flops(jnp.float32, size=64) < 1e15


def test_memory_is_left_out_where_devices_report_none():
    assert device_memory() == {}  # on a CPU
