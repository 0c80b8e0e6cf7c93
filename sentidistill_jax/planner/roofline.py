"""A stated estimate of a step's time from what the compiled program computes, moves and sends.

The bounds are those of the roofline model (Williams et al. 2009): a step is no faster than its
slowest resource when everything overlaps, and no faster than on-chip work plus all communication
when nothing does. Between them lies what the compiled program allows: a collective that it starts
before other work and awaits after it may overlap, and the others are exposed. All take peak rates,
so real steps are slower than the first two. No figure here was measured on the hardware.
"""

import dataclasses
from collections.abc import Sequence

from sentidistill_jax.planner.compile import Compiled
from sentidistill_jax.planner.hlo_collectives import Collective
from sentidistill_jax.planner.topology import Topology
from sentidistill_jax.planner.workloads import Flops


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds that each resource of one device is busy in a step, at its peak rate."""

    compute: float
    hbm: float
    ici: float
    dcn: float
    exposed_ici: float  # of `ici`: collectives during which the program does nothing else
    exposed_dcn: float

    @property
    def overlapped(self) -> float:
        """Seconds of a step in which everything overlaps."""
        return max(self.compute, self.hbm, self.ici, self.dcn)

    @property
    def exposed(self) -> float:
        """Seconds of a step in which everything overlaps that the compiled program lets overlap."""
        exposed = self.exposed_ici + self.exposed_dcn
        hidden = max(self.ici - self.exposed_ici, self.dcn - self.exposed_dcn)
        return max(self.compute, self.hbm, hidden) + exposed

    @property
    def serial(self) -> float:
        """Seconds of a step in which communication never overlaps with work on the chip."""
        return max(self.compute, self.hbm) + self.ici + self.dcn

    @property
    def bound_by(self) -> str:
        """Name of the busiest resource."""
        times = {"compute": self.compute, "HBM": self.hbm, "ICI": self.ici, "DCN": self.dcn}
        return max(times, key=times.__getitem__)


def step_time(compiled: Compiled, flops: Flops, topology: Topology) -> StepTime:
    """Busy seconds of a step that fits, from the compiled program and published rates."""
    chip = topology.chip
    exposed = [one for one in compiled.collectives if not one.asynchronous]
    return StepTime(
        compute=flops.hardware / topology.num_devices / chip.peak_flops,
        hbm=compiled.hbm_traffic / chip.hbm_bandwidth,
        ici=network_time(compiled.collectives, "ICI", topology),
        dcn=network_time(compiled.collectives, "DCN", topology),
        exposed_ici=network_time(exposed, "ICI", topology),
        exposed_dcn=network_time(exposed, "DCN", topology),
    )


def network_time(collectives: Sequence[Collective], network: str, topology: Topology) -> float:
    """Seconds that a network is busy, latency left out.

    Collectives come one after the other, but for permutations in opposite directions of a ring,
    which use a link each.
    """
    seconds = 0.0
    for collective in collectives:
        if collective.network != network:
            continue
        if network == "DCN":
            rate = topology.chip.dcn_bandwidth
        elif collective.kind == "collective-permute":
            rate = topology.chip.ici_link_bandwidth  # to one neighbour
        else:
            rate = topology.chip.ici_link_bandwidth * topology.links(collective.torus_dims)
        seconds += (collective.sent_bytes - collective.paired_bytes / 2) / rate
    return seconds


def utilization(flops: Flops, seconds: float, topology: Topology) -> float:
    """Model FLOPs utilisation: the model's operations over what the chips could do meanwhile."""
    return flops.model / seconds / (topology.num_devices * topology.chip.peak_flops)
