"""What a plan makes of labels, conditions and steps."""

import pytest

from sentidistill_jax.sweep.space import (
    Assignment,
    Choice,
    LogUniform,
    Options,
    Space,
    Step,
    Study,
    Variant,
    When,
)

SPACE = Space(
    {
        "lora.rank": Choice((0, 8)),
        "lora.scale": When("lora.rank", (8,), Choice((1.0, 2.0))),
        "size": Options({"all": {}, "two": {"student.layers": (0, 1), "student.remat": "full"}}),
    }
)


def test_a_grid_has_what_is_conditional_only_where_it_is_there():
    points = list(SPACE.grid())
    assert len(points) == 2 * (1 + 2)
    assert [point.get("lora.scale") for point in points[::2]] == [None, 1.0, 2.0]
    assert points[1] == {"lora.rank": 0, "size": "two"}
    with pytest.raises(ValueError, match="seed is a range, and a grid needs a Choice"):
        list(Space({"seed": LogUniform(1, 2)}).grid())


def test_labels_become_changes():
    assert SPACE.assign({"lora.rank": 0, "size": "two"}).changes == {
        "lora.rank": 0, "student.layers": (0, 1), "student.remat": "full",
    }  # fmt: skip
    tuples = Space({"student.layers": Choice(((0,), (0, 1)))})
    assert tuples.assign({"student.layers": "(0, 1)"}).changes == {"student.layers": (0, 1)}


def test_a_change_may_mean_one_step():
    first, second = Step("train", "knowdist", changes={"seed": 7}), Step("train")
    changes = {"seed": 1, "knowdist:optimizer.learning_rate": 1e-3}
    assignment = Assignment({}, changes, (first, second))
    assert assignment.changes_of(first) == {"seed": 7, "optimizer.learning_rate": 1e-3}
    assert assignment.changes_of(second) == {"seed": 1}


def test_a_study_is_arms_by_sizes_by_seeds_in_rounds():
    short = (Step("train"),)
    study = Study(
        arms={"a": Variant({"objective.alpha": 0.0}), "b": Variant(steps=short, inputs="other")},
        control="a",
        sizes={"small": Variant({"data.epochs": 1}), "large": Variant({"data.epochs": 9})},
        seeds=(3, 4),
    )
    plan = study.plan()
    assert [tuple(one.labels.values()) for one in plan[:3]] == [
        ("a", "small", 3), ("b", "small", 3), ("a", "small", 4),
    ]  # fmt: skip
    assert len(plan) == 8
    assert plan[4].changes == {"data.epochs": 9, "objective.alpha": 0.0, "seed": 3}
    assert (plan[1].steps, plan[1].inputs) == (short, "other")
    with pytest.raises(ValueError, match=r"control='c' must be an arm: \['a', 'b'\]"):
        Study({"a": Variant(), "b": Variant()}, control="c")
