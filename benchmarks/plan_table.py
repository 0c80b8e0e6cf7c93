"""Plans as a Markdown table and, with --plot, tokens per second over chips.

sentidistill plan --config=configs/pod.py --topology=v5e:4x4 --output=plans/1b-16.json ...
python benchmarks/plan_table.py plans/*.json [--plot scaling.png]

A row is named after its file; the plot joins the training plans that are given, in order of chips.
Bounds from the compiler's output and published peak rates: nothing here is measured.
"""

import argparse
import json
import pathlib
from typing import Any

HEADER = (
    "plan", "topology", "tokens a step", "peak GiB", "of", "bound by", "step ms", "tokens/s", "MFU",
    "chip-hours",
)  # fmt: skip


def row(path: pathlib.Path, plan: dict[str, Any]) -> str:
    """One line; where two numbers stand, all overlaps / nothing does."""
    cells = [path.stem, f"`{plan['topology']}`", f"{plan['tokens_per_step']:,}"]
    cells += [f"{plan['peak_gib']:.2f}", f"{plan['limit_gib']:.2f}"]
    if not plan["fits"]:
        return "| " + " | ".join([*cells, "does not fit", *[""] * 4]) + " |"

    def both(field: str, form: str, scale: float = 1.0) -> str:
        values = [plan[bound].get(field) for bound in ("overlapped", "serial")]
        return " / ".join("" if value is None else format(value * scale, form) for value in values)

    cells += [
        plan["bound_by"],
        both("step_seconds", ".0f", 1000),
        both("tokens_per_second", ",.0f"),
    ]
    cells += [both("mfu", ".0%"), both("chip_hours", ".1f")]
    return "| " + " | ".join(cells) + " |"


def plot(plans: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Both bounds over chips beside the line from the smallest plan."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plans = sorted((plan for plan in plans if plan["fits"]), key=lambda plan: plan["chips"])
    chips = [plan["chips"] for plan in plans]
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for bound, words in (("overlapped", "all overlaps"), ("serial", "nothing overlaps")):
        rates = [plan[bound]["tokens_per_second"] for plan in plans]
        axes.plot(chips, rates, marker="o", label=words)
    first = plans[0]["serial"]["tokens_per_second"] / chips[0]
    axes.plot(chips, [first * n for n in chips], ":", color="grey", label="linear from the first")
    axes.set(xscale="log", yscale="log", xlabel="chips", ylabel="tokens per second, planned")
    axes.set_xticks(chips, [str(n) for n in chips])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=150)


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
