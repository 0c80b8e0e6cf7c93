"""Means over seeds and paired differences."""

import matplotlib.pyplot as plt
import pytest

from sentidistill_jax.sweep.figure import study_figure
from sentidistill_jax.sweep.report import ArmResult, Estimate, arm_results
from sentidistill_jax.sweep.space import Goal, Study, Variant


def test_an_interval_is_students():
    # 1, 2, 4: mean 7/3, standard error 0.8819; t of 2 degrees of freedom at 97.5 % is 4.302653.
    estimate = Estimate.of([1.0, 2.0, 4.0])
    assert estimate.mean == pytest.approx(7 / 3)
    assert estimate.half_width == pytest.approx(4.302653 * 0.8819171)
    assert Estimate.of([1.0]) == Estimate(1.0, 1, None)


def test_differences_are_paired_by_seed():
    study = Study(
        {"control": Variant(), "better": Variant(), "failed": Variant()},
        control="control",
        goals=(Goal("f1"),),
    )
    scores = {"control": (0.1, 0.5, 0.9), "better": (0.2, 0.6, None)}
    trials = [
        ({"arm": arm, "seed": seed}, {"f1": score})
        for arm, of_arm in scores.items()
        for seed, score in enumerate(of_arm)
        if score is not None
    ]
    control, better = arm_results(study, trials)
    assert control.difference is None and control.value.mean == pytest.approx(0.5)
    assert better.value.mean == pytest.approx(0.4)  # without its third seed
    assert better.difference is not None and better.difference.seeds == 2
    assert better.difference.mean == pytest.approx(0.1)
    assert better.difference.half_width == pytest.approx(0)


@pytest.mark.parametrize("sizes", [("64 labels", "all"), ("",)])
def test_a_figure_has_a_panel_for_each_measure(sizes, tmp_path):
    results = [
        ArmResult(arm, size, measure, Estimate(0.5, 3, 0.1), None)
        for arm in ("a", "costs $5", "c")
        for size in sizes
        for measure in ("f1", "auc", "loss")
    ]
    study_figure(results, tmp_path / "results.png")
    image = plt.imread(tmp_path / "results.png")
    assert image.shape[0] > image.shape[1] * 0.7 and image.std() > 0.05
    study_figure(results[:1], tmp_path / "results.png")
    assert plt.imread(tmp_path / "results.png").shape[1] < image.shape[1]
