"""Who goes on at a rung."""

from sentidistill_jax.sweep.halving import best, rungs_reached, scores_at
from sentidistill_jax.sweep.space import Goal, Halving

HALVING = Halving(rungs=(10, 30), factor=2)


def test_the_first_look_at_or_after_a_rung_counts():
    looks = {0: {9: 0.9, 12: 0.1, 20: 0.8}, 1: {10: 0.3}, 2: {9: 1.0}}
    assert scores_at(looks, 10) == {0: 0.1, 1: 0.3}
    assert [rungs_reached(HALVING, of_trial) for of_trial in looks.values()] == [1, 1, 0]


def test_the_best_half_of_those_that_came_so_far_goes_on():
    looks = {trial: {10: score} for trial, score in enumerate((0.5, 0.7, 0.7, 0.1, 0.2))}
    assert best(HALVING, looks, 0, closed=False) == [1, 2]  # the earlier of equal ones first
    losses = Halving(rungs=(10,), factor=2, goal=Goal("train/loss", "minimize"))
    assert best(losses, looks, 0, closed=False) == [3, 4]


def test_one_alone_waits_for_another_unless_none_will_come():
    assert best(HALVING, {0: {10: 0.5}}, 0, closed=False) == []
    assert best(HALVING, {0: {10: 0.5}}, 0, closed=True) == [0]
    assert best(HALVING, {}, 0, closed=True) == []
