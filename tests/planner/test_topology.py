import math

import pytest

from sentidistill_jax.planner.topology import CHIPS, Topology


@pytest.mark.parametrize(
    ("text", "chips", "hosts", "accelerator_type"),
    [
        ("v5e:4x4", 16, 4, "v5litepod-16"),
        ("v5e:16x16", 256, 64, "v5litepod-256"),
        ("v5:4x4x4", 64, 16, "v5p-128"),
        ("v5p:4x4x4", 64, 16, "v5p-128"),
        ("v4:2x2x1", 4, 1, "v4-8"),
        ("v6e:16x16", 256, 64, "v6e-256"),
        ("2xv5e:16x16", 512, 128, "v5litepod-256"),
        ("v5e:1x1", 1, 1, "v5litepod-1"),
        ("v5p:8x16x16", 2048, 512, "v5p-4096"),
    ],
)
def test_sizes_and_cloud_names(text, chips, hosts, accelerator_type):
    topology = Topology.parse(text)
    assert topology.num_chips == chips
    assert topology.num_slices * topology.hosts_per_slice == hosts
    assert topology.accelerator_type == accelerator_type
    assert Topology.parse(str(topology)) == topology


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v5e-256", "v5e:16x16"),
        ("v9:4x4", "'v9'"),
        ("v5e:4x4x4", "2 sizes"),
        ("v5p:16x16", "3 sizes"),
        ("0xv5e:4x4", "at least 1"),
        ("v5e:8x32", "no slice of that shape; expected one of 1x1, .*, 16x16.$"),
        ("v5e:3x5", "v5e has no slice"),
        ("v6e:8x4", "v6e has no slice"),
        ("v5p:4x4x6", "2x4x4, or multiples of 4, ascending, up to 6144 chips.$"),
        ("v5p:8x4x4", "ascending"),
        ("v4:16x16x32", "up to 4096"),
    ],
)
def test_what_is_no_topology_is_refused_with_an_example(text, words):
    with pytest.raises(ValueError, match=words):
        Topology.parse(text)


@pytest.mark.parametrize(
    ("text", "host"), [("2xv5e:16x16", "v5e:2x2"), ("v5p:4x4x4", "v5p:2x2x1"), ("v5e:1x1",) * 2]
)
def test_a_host_has_four_chips_or_all(text, host):
    assert str(Topology.parse(text).host) == host


def test_a_full_dim_is_a_ring_and_a_short_one_a_line():
    assert Topology.parse("v5e:16x16").links(2) == 4
    assert Topology.parse("v5e:4x4").links(2) == 2
    assert Topology(CHIPS["v5e"], (4, 16)).links(1) == 2
    assert Topology.parse("v5p:4x4x4").links(3) == 6


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_the_table_is_filled_in(chip):
    numbers = (chip.hbm_gib, chip.peak_flops, chip.hbm_bandwidth, chip.ici_link_bandwidth)
    assert all(number > 0 and math.isfinite(number) for number in numbers)
    # On-chip memory is faster than a link, and a link faster than the data-centre network.
    assert chip.hbm_bandwidth > chip.ici_link_bandwidth > chip.dcn_bandwidth
