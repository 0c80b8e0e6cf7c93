import re

import pytest

from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.table import Row, RunResult, aggregate

from .golden import read_vectors


def _run(dataset="sc/imdb", seed=42, f1=0.5, experiment="ours", model="tiny_1b", k_shot=4):
    return RunResult(experiment, model, dataset, seed, k_shot, f1)


def _full(seed, f1):
    return [_run(dataset, seed, f1) for dataset in SENTIBENCH.tasks]


def _only_row(results) -> Row:
    (row,) = aggregate(SENTIBENCH, results).rows
    return row


def test_missing_datasets_count_as_zero_in_every_mean():
    row = _only_row([_run("sc/imdb", f1=0.8), _run("absa/opener", f1=0.4)])
    assert row.average == pytest.approx((80 + 40) / 12)
    assert row.categories == pytest.approx({"basic": 20, "multifaceted": 0, "fine-grained": 10})
    assert len(row.missing) == 10 and row.values["sc/sst2"] == 0.0


def test_runs_are_rounded_then_averaged_reruns_included():
    row = _only_row([_run(f1=0.12344), _run(f1=0.12343), _run(seed=52, f1=0.9)])
    assert row.values["sc/imdb"] == pytest.approx(100 * (0.1234 + 0.1234 + 0.9) / 3, abs=1e-12)
    assert row.seeds == (42, 52)


def test_ties_round_as_plain_sums_do():
    """60.945, which a plain sum of floats misses by the last bit, upwards."""
    row = _only_row([_run(f1=f1) for f1 in (0.48, 0.2324, 0.8019, 0.9235)])
    assert f"{row.values['sc/imdb']:.2f}" == "60.95"


def test_deviation_is_over_seeds_not_over_runs():
    row = _only_row([_run(f1=0.5), _run(f1=0.7), _run(seed=52, f1=0.8)])
    assert row.deviations["sc/imdb"] == pytest.approx(20 / 2**0.5)  # of 60 and 80
    assert row.deviations["sc/sst2"] is None
    assert row.average_deviation is None  # no seed has all twelve


def test_deviation_of_the_average_uses_complete_seeds():
    row = _only_row([*_full(42, 0.5), *_full(52, 0.7), _run(seed=62, f1=0.1)])
    assert row.average_deviation == pytest.approx(20 / 2**0.5)


def test_rows_are_groups_in_order_of_first_appearance():
    runs = [_run(k_shot=4), _run(experiment="base"), _run(k_shot=12), _run(f1=0.6)]
    rows = aggregate(SENTIBENCH, runs).rows
    assert [(row.experiment, row.k_shot) for row in rows] == [
        ("ours", 4),
        ("base", 4),
        ("ours", 12),
    ]
    assert rows[0].values["sc/imdb"] == pytest.approx(55)


def test_unknown_dataset_is_an_error():
    with pytest.raises(ValueError, match="dataset='imdb' is not in SentiBench"):
        aggregate(SENTIBENCH, [_run("imdb")])


def test_rendering():
    table = aggregate(
        SENTIBENCH, [*_full(42, 0.5), *_full(52, 0.7), _run(experiment="base", f1=0.1)]
    )
    head, first, second = table.render("text").splitlines()
    assert head.split()[:3] == ["run", "imdb", "yelp2"] and head.endswith("average")
    assert first.startswith("ours (tiny_1b, 4-shot)  60.00 ± 14.14")
    assert second.split()[3:6] == ["10.00", "-", "-"] and second.endswith("0.83")
    markdown = table.render("markdown").splitlines()
    assert markdown[1].startswith("| --- | ---: |")
    assert {line.count("|") for line in markdown} == {18}
    latex = table.render("latex")
    assert r"ours (tiny\_1b, 4-shot) & 60.00 $\pm$ 14.14" in latex
    assert latex.startswith(r"\begin{tabular}{lrrrrrrrrrrrrrrrr}")


# `<sub>_<model>_<dataset>_<seed>_numOfshot<k>_<Y_m_d_H_M_S>`; the official reader takes only the
# last digit of k.
RUN_NAME = re.compile(r"([^_]+)_(.+)_(\w+/\w+)_(\d+)_numOfshot\d*(\d)_\d{4}(?:_\d\d){5}")


def _read_official_name(name, scores) -> RunResult:
    match = RUN_NAME.fullmatch(name)
    assert match is not None, name
    sub, model, dataset, seed, k_shot = match.groups()
    return RunResult(
        sub, model, dataset, int(seed), int(k_shot), scores["f1"], float(scores["acc"])
    )


def _official_row(experiment, result_lines) -> Row | None:
    """Of runs with the experiment in their name, keeps per dataset the group that came last."""
    runs = [
        _read_official_name(name, scores) for name, scores in result_lines if experiment in name
    ]
    winner = {}
    for row in aggregate(SENTIBENCH, runs).rows:
        group = (row.experiment, row.model, row.k_shot)
        winner |= {dataset: group for dataset in SENTIBENCH.tasks if dataset not in row.missing}
    kept = [
        RunResult(experiment, "", run.dataset, run.seed, 0, run.f1)
        for run in runs
        if winner[run.dataset] == (run.experiment, run.model, run.k_shot)
    ]
    return _only_row(kept) if kept else None


@pytest.mark.golden
def test_official_tables(golden_dir):
    for line in read_vectors(golden_dir / "table.jsonl"):
        for experiment, printed in line["official"].items():
            row = _official_row(experiment, line["result_lines"])
            if row is None:
                assert experiment not in line["derived"]
                assert {printed["average"], *printed["values"].values()} == {"0.00"}
                continue
            assert {name: f"{value:.2f}" for name, value in row.values.items()} == printed["values"]
            assert f"{row.average:.2f}" == printed["average"], line["case"]
            means = {name.replace("-", "_"): value for name, value in row.categories.items()}
            expected = line["derived"][experiment]
            assert {**means, "average": row.average} == pytest.approx(expected, abs=1e-10)
