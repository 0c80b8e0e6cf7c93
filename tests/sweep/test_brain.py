"""What is asked of Optuna, and what it is refused."""

import pytest

from sentidistill_jax.sweep.brain import Brain, open_storage
from sentidistill_jax.sweep.space import (
    Choice,
    Goal,
    Halving,
    IntUniform,
    LogUniform,
    Options,
    Space,
    Study,
    Uniform,
    Variant,
    When,
)

SPACE = Space(
    {
        "optimizer.learning_rate": LogUniform(1e-5, 1e-3),
        "lora.rank": Choice((0, 16)),
        "lora.scale": When("lora.rank", (16,), Uniform(1, 2)),
        "layers": Options({"all": {"student.layers": ()}, "two": {"student.layers": (0, 1)}}),
        "student.num_layers": IntUniform(1, 3),
    }
)


def ask(brain, count):
    return [brain.ask()[1].changes for _ in range(count)]


@pytest.mark.parametrize("sampler", ["auto", "random", "nsga2"])
def test_draws_stay_in_their_domains(sampler):
    for changes in ask(Brain("s", SPACE, open_storage(), sampler=sampler), 12):
        assert 1e-5 <= changes["optimizer.learning_rate"] <= 1e-3
        assert ("lora.scale" in changes) == (changes["lora.rank"] == 16)
        assert changes["student.layers"] in ((), (0, 1))


def test_a_sweep_that_is_taken_up_draws_what_it_would_have_drawn(tmp_path):
    whole = ask(Brain("s", SPACE, open_storage(), sampler="random"), 6)
    journal = tmp_path / "journal.log"
    parts = [
        ask(Brain("s", SPACE, open_storage(journal=journal), sampler="random"), 3) for _ in "12"
    ]
    assert parts[0] + parts[1] == whole
    assert ask(Brain("s", SPACE, open_storage(), sampler="random", seed=1), 6) != whole


def test_a_grid_is_asked_once(tmp_path):
    space = Space({"seed": Choice((0, 1)), "lora.rank": Choice((0, 8))})
    for expected in (3, 1):
        brain = Brain("s", space, open_storage(journal=tmp_path / "j"), sampler="grid")
        ask(brain, expected)
    assert brain.exhausted and len({str(trial.params) for trial in brain.trials()}) == 4


def test_a_study_may_grow_but_its_arms_stay_what_they_were(tmp_path):
    def brain(**arms):
        return Brain("s", Study(arms, "a", seeds=(0,)), open_storage(journal=tmp_path / "j"))

    arms = {"a": Variant({"objective.alpha": 0.0}), "b": Variant()}
    assert ask(brain(**arms), 1) == [{"objective.alpha": 0.0, "seed": 0}]
    grown = brain(**arms, c=Variant({"student.layers": (0,)}))
    assert ask(grown, 2)[1] == {"student.layers": (0,), "seed": 0} and grown.exhausted
    with pytest.raises(ValueError, match="another name"):
        brain(**arms | {"b": Variant({"objective.alpha": 0.5})})
    with pytest.raises(ValueError, match="no longer in the study"):
        brain(**arms)


@pytest.mark.parametrize(
    ("plan", "sampler", "message"),
    [
        (Study({"a": Variant()}, "a"), "tpe", "sampler=tpe: a study has a fixed plan"),
        (SPACE, "annealing", "sampler='annealing' must be one of auto, random"),
        (SPACE, "grid", "is a range, and a grid needs a Choice"),
        (
            Space(SPACE.fields, goals=(Goal("a"), Goal("b")), halving=Halving((1,))),
            "auto",
            "halving needs one goal",
        ),
    ],
)
def test_what_means_nothing_is_refused(plan, sampler, message):
    with pytest.raises(ValueError, match=message):
        Brain("s", plan, open_storage(), sampler=sampler)
