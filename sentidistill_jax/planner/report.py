"""A plan in words and numbers, and the same as a JSON-like value."""

import dataclasses
from typing import Any

from sentidistill_jax.planner.compile import Compiled
from sentidistill_jax.planner.roofline import step_time, utilization
from sentidistill_jax.planner.search import Trial
from sentidistill_jax.planner.topology import GIB, Topology
from sentidistill_jax.planner.workloads import Workload

BOUNDS = ("overlapped", "exposed", "serial")  # of a step's time, each no less than the one before


@dataclasses.dataclass(frozen=True)
class Run:
    """Length of a run, and what it costs where a price is given."""

    steps: int  # 0: not known
    price_per_chip_hour: float = 0.0  # 0: not given
    currency: str = ""


def plan_values(
    workload: Workload, topology: Topology, compiled: Compiled, run: Run
) -> dict[str, Any]:
    """Everything a plan says; times only where the program fits."""
    flops = workload.flops()
    values: dict[str, Any] = {
        "topology": str(topology),
        "chips": topology.num_chips,
        "hosts": topology.num_slices * topology.hosts_per_slice,
        "mesh": compiled.mesh,
        "fits": compiled.fits,
        "peak_gib": compiled.peak_bytes / GIB,
        "limit_gib": compiled.limit_bytes / GIB,
        "resident_gib": {name: size / GIB for name, size in compiled.resident.items()},
        "largest": [dataclasses.asdict(buffer) for buffer in compiled.largest],
        "tokens_per_step": workload.tokens,
        "model_flops": flops.model,
        "hardware_flops": flops.hardware,
        "compile_seconds": compiled.seconds,
    }
    if not compiled.fits:
        return values
    time = step_time(compiled, flops, topology)
    values |= {
        "collectives": [dataclasses.asdict(entry) for entry in compiled.collectives],
        "unknown_trip_counts": compiled.unknown_trip_counts,
        "busy_seconds": dataclasses.asdict(time),
        "bound_by": time.bound_by,
    }
    for name in BOUNDS:
        seconds = getattr(time, name)
        estimate: dict[str, float] = {
            "step_seconds": seconds,
            "tokens_per_second": workload.tokens / seconds,
            "mfu": utilization(flops, seconds, topology),
        }
        if run.steps:
            hours = run.steps * seconds / 3600
            estimate |= {"hours": hours, "chip_hours": hours * topology.num_chips}
            if run.price_per_chip_hour:
                estimate["price"] = hours * topology.num_chips * run.price_per_chip_hour
        values[name] = estimate
    return values


def plan_text(values: dict[str, Any], run: Run) -> str:
    """The plan as a page of text."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in values["mesh"].items())
    slack = values["limit_gib"] - values["peak_gib"]
    verdict = f"fits with {slack:.2f} GiB to spare" if values["fits"] else "does NOT fit"
    short = "" if values["fits"] else f", {-slack:.2f} GiB too much"
    lines = [
        f"{values['topology']}: {values['chips']} chips, {values['hosts']} hosts, mesh {mesh}",
        f"memory     {verdict}: peak {values['peak_gib']:.2f} of {values['limit_gib']:.2f} GiB per"
        f" device{short}",
    ]
    between_steps = ", ".join(f"{name} {gib:.2f}" for name, gib in values["resident_gib"].items())
    rest = values["peak_gib"] - sum(values["resident_gib"].values())
    lines.append(f"           {between_steps}, the step itself {rest:.2f} GiB")
    lines += [
        f"           {buffer['num_bytes'] / GIB:6.2f} GiB  {buffer['shape']}  "
        + _end(buffer["operator"])
        for buffer in values["largest"]
    ]
    if not values["fits"]:
        return "\n".join(lines)
    lines.append("sent       by one device in a step")
    lines += [
        f"           {entry['sent_bytes'] / 2**20:9.1f} MiB  {entry['network']}"
        f"  {entry['count']:5.0f} x {entry['kind']} over {entry['group_size']},"
        f" {'beside other work' if entry['asynchronous'] else 'exposed'}"
        for entry in values["collectives"]
        if entry["sent_bytes"] >= 2**19
    ]
    if values["unknown_trip_counts"]:
        lines.append(
            f"           {values['unknown_trip_counts']} loops of unknown length count as one round"
        )
    busy = values["busy_seconds"]
    lines += [
        f"arithmetic {values['model_flops'] / 1e12:.1f} TFLOP a step,"
        f" {values['hardware_flops'] / 1e12:.1f} with recomputation",
        f"busy       compute {busy['compute'] * 1e3:.1f} ms, HBM {busy['hbm'] * 1e3:.1f},"
        f" ICI {busy['ici'] * 1e3:.1f} ({busy['exposed_ici'] * 1e3:.1f} exposed),"
        f" DCN {busy['dcn'] * 1e3:.1f} ({busy['exposed_dcn'] * 1e3:.1f}):"
        f" bound by {values['bound_by']}",
        "estimate   from peak rates, nothing measured: all overlaps / what the program lets overlap"
        " / nothing",
    ]
    rows = [
        ("step", "step_seconds", lambda x: f"{x * 1e3:.1f} ms"),
        ("tokens/s", "tokens_per_second", lambda x: f"{x:,.0f}"),
        ("MFU", "mfu", lambda x: f"{x:.1%}"),
        ("hours", "hours", lambda x: f"{x:.2f}"),
        ("chip-hours", "chip_hours", lambda x: f"{x:.1f}"),
        ("price", "price", lambda x: f"{x:.2f} {run.currency}".strip()),
    ]
    for name, key, form in rows:
        if key in values["serial"]:
            bounds = " / ".join(form(values[bound][key]) for bound in BOUNDS)
            lines.append(f"           {name:<11}{bounds}")
    return "\n".join(lines)


def trial_line(trial: Trial, topology: Topology) -> str:
    """One line of text for a candidate that was compiled."""
    peak = f"peak {trial.compiled.peak_bytes / GIB:6.2f} GiB"
    if not trial.compiled.fits:
        return f"  no   {peak}              {trial.candidate}"
    return f"  fits {peak}  {_seconds(trial, topology) * 1e3:8.1f} ms  {trial.candidate}"


def trial_values(trial: Trial, topology: Topology) -> dict[str, Any]:
    """The values of a candidate that was compiled, for the JSON report."""
    fits = trial.compiled.fits
    return {
        "change": str(trial.candidate),
        "fits": fits,
        "peak_gib": trial.compiled.peak_bytes / GIB,
        "exposed_step_seconds": _seconds(trial, topology) if fits else None,
    }


def _seconds(trial: Trial, topology: Topology) -> float:
    return step_time(trial.compiled, trial.candidate.workload.flops(), topology).exposed


def _end(operator: str, length: int = 60) -> str:
    return operator if len(operator) <= length else f"...{operator[-length:]}"
