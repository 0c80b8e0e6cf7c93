"""Plans as a Markdown table and, with --plot, how they change with the number of chips.

sentidistill plan --config=configs/pod.py --topology=v5e:4x4 --output=plans/1b-16.json ...
python benchmarks/plan_table.py plans/*.json [--plot scaling.svg]

A row is named after its file; the plot shows the plans that are given in order of chips: tokens per
second, peak memory, and bytes that one device sends in a step.
Bounds from the compiler's output and published peak rates: nothing here is measured.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from sentidistill_jax.planner.report import BOUNDS

HEADER = (
    "plan", "topology", "tokens a step", "peak GiB", "of", "bound by", "step ms", "tokens/s", "MFU",
    "chip-hours",
)  # fmt: skip


def row(path: pathlib.Path, plan: dict[str, Any]) -> str:
    """One line; of three numbers: all overlaps / what the program lets overlap / nothing."""
    cells = [path.stem, f"`{plan['topology']}`", f"{plan['tokens_per_step']:,}"]
    cells += [f"{plan['peak_gib']:.2f}", f"{plan['limit_gib']:.2f}"]
    if not plan["fits"]:
        return "| " + " | ".join([*cells, "does not fit", *[""] * 4]) + " |"

    def bounds(field: str, form: str, scale: float = 1.0) -> str:
        values = [plan[bound].get(field) for bound in BOUNDS]
        return " / ".join("" if value is None else format(value * scale, form) for value in values)

    cells += [
        plan["bound_by"],
        bounds("step_seconds", ".0f", 1000),
        bounds("tokens_per_second", ",.0f"),
    ]
    cells += [bounds("mfu", ".0%"), bounds("chip_hours", ".1f")]
    return "| " + " | ".join(cells) + " |"


def plot(plans: list[dict[str, Any]], path: pathlib.Path) -> None:
    """All bounds, peak memory and what is sent over chips, of the plans that fit."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "plans", "font.size": 8}
    import matplotlib.pyplot as plt

    plans = sorted((plan for plan in plans if plan["fits"]), key=lambda plan: plan["chips"])
    figure, panels = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    _plot_rates(panels[0], plans)
    resident = [sum(plan["resident_gib"].values()) for plan in plans]
    step = [plan["peak_gib"] - size for plan, size in zip(plans, resident, strict=True)]
    _stack(panels[1], plans, {"parameters and optimizer": resident, "the step itself": step})
    panels[1].set_ylabel("peak GiB per device")
    kinds = {(one["kind"], one["network"]) for plan in plans for one in plan["collectives"]}
    sent = {
        f"{kind}, {network}": [
            sum(
                one["sent_bytes"] / 2**30
                for one in plan["collectives"]
                if (one["kind"], one["network"]) == (kind, network)
            )
            for plan in plans
        ]
        for kind, network in sorted(kinds)
    }
    _stack(panels[2], plans, {name: sizes for name, sizes in sent.items() if max(sizes) > 0.01})
    panels[2].set_ylabel("GiB sent by one device in a step")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _plot_rates(axes: Any, plans: list[dict[str, Any]]) -> None:
    chips = [plan["chips"] for plan in plans]
    words = ("all overlaps", "what the program lets overlap", "nothing overlaps")
    for bound, label in zip(BOUNDS, words, strict=True):
        rates = [plan[bound]["tokens_per_second"] for plan in plans]
        axes.plot(chips, rates, marker="o", label=label)
    first = plans[0]["exposed"]["tokens_per_second"] / chips[0]
    axes.plot(chips, [first * n for n in chips], ":", color="grey", label="linear from the first")
    axes.set(xscale="log", yscale="log", xlabel="chips", ylabel="tokens per second, planned")
    axes.set_xticks(chips, [str(n) for n in chips])
    axes.minorticks_off()
    axes.legend()


def _stack(axes: Any, plans: list[dict[str, Any]], parts: Mapping[str, Sequence[float]]) -> None:
    names = [str(plan["chips"]) for plan in plans]
    below = [0.0] * len(plans)
    for label, sizes in parts.items():
        axes.bar(names, sizes, bottom=below, label=label)
        below = [low + size for low, size in zip(below, sizes, strict=True)]
    axes.set(xlabel="chips", ylim=(0, 1.5 * max(below)))
    axes.legend(loc="upper right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plans", type=pathlib.Path, nargs="+")
    parser.add_argument("--plot", type=pathlib.Path)
    options = parser.parse_args()
    plans = [json.loads(path.read_text()) for path in options.plans]
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for path, plan in zip(options.plans, plans, strict=True):
        print(row(path, plan))
    if options.plot:
        plot(plans, options.plot)


if __name__ == "__main__":
    main()
