import hashlib
import itertools

import pytest

from sentidistill_jax.evaluation.data import Dataset, load_dataset
from sentidistill_jax.evaluation.prompts import build_prompt, draw_demonstrations, prompts
from sentidistill_jax.evaluation.tasks import TASKS

from .golden import read_vectors

POOL, ITEMS = 30, 12


@pytest.fixture
def stance() -> Dataset:
    def items(split, count):
        return tuple(
            {"sentence": f"{split} {i} 100%", "target": f"Person {i}", "label": "AGAINST"}
            for i in range(count)
        )

    return Dataset(TASKS["multifaced/pstance"], items("train", POOL), items("test", ITEMS))


def test_layout(stance):
    first, second = draw_demonstrations(POOL, ITEMS, 42, 2)[5]
    assert build_prompt(stance, 5, seed=42, k=2) == (
        "Please perform Stance Detection task. Given the sentence, assign a sentiment label "
        "expressed by the author towards \"Person 5\" from ['against', 'favor']. Return label "
        "only without any other text.\n"
        "\n"
        f"Sentence: train {first} 100%\n"
        f"Label: against(opinion towards 'Person {first}')\n"
        "\n"
        f"Sentence: train {second} 100%\n"
        f"Label: against(opinion towards 'Person {second}')\n"
        "\n"
        "Sentence: test 5 100%\n"
        "Label:"
    )


def test_zero_shot_has_no_demonstrations(stance):
    assert build_prompt(stance, 0, 42, 0).count("Label:") == 1


def test_draws_are_those_of_the_mersenne_twister():
    # random.seed(42); [random.sample(range(3000), 4) for _ in range(2)]
    expected = ((2619, 456, 102, 1126), (1003, 914, 571, 419))
    assert draw_demonstrations(3000, 1000, 42, 4)[:2] == expected


def test_demonstrations_depend_on_the_position_only():
    assert draw_demonstrations(POOL, ITEMS, 1, 4)[:3] == draw_demonstrations(POOL, 3, 1, 4)
    assert draw_demonstrations(POOL, ITEMS, 1, 4) != draw_demonstrations(POOL, ITEMS, 2, 4)


def test_iterator_equals_single_access_in_any_order(stance):
    every = list(prompts(stance, seed=52, k=4))
    assert len(every) == ITEMS
    assert every == [build_prompt(stance, i, 52, 4) for i in reversed(range(ITEMS))][::-1]


def test_limits_are_checked(stance):
    with pytest.raises(IndexError, match=r"index=12 is outside the 12 test items of multifaced/"):
        build_prompt(stance, ITEMS, 42, 4)
    with pytest.raises(IndexError, match=r"index=-1"):
        build_prompt(stance, -1, 42, 4)
    with pytest.raises(ValueError, match=r"k=31 demonstrations cannot be drawn from a pool of 30"):
        build_prompt(stance, 0, 42, POOL + 1)


@pytest.mark.golden
@pytest.mark.sentibench
def test_official_prompts(golden_dir, sentibench_dir):
    for row in read_vectors(golden_dir / "prompts.jsonl"):
        dataset = load_dataset(row["dataset"], sentibench_dir)
        sizes = len(dataset.train), len(dataset.test)
        index, seed, k = row["test_index"], row["seed"], row["k"]
        drawn = draw_demonstrations(*sizes, seed, k)[index]
        assert list(drawn) == row["demo_indices"], row["id"]
        legal = [row["prompt"]] if row["stable"] else row["alternatives"]
        assert build_prompt(dataset, index, seed, k) in legal, row["id"]


@pytest.mark.golden
@pytest.mark.sentibench
def test_official_digests_of_all_prompts(golden_dir, sentibench_dir):
    for row in read_vectors(golden_dir / "prompts_digest.jsonl"):
        dataset = load_dataset(row["dataset"], sentibench_dir)
        keep = [index not in set(row["skipped_unstable"]) for index in range(row["n"])]
        digest = hashlib.sha256()
        every = list(prompts(dataset, row["seed"], row["k"]))
        assert len(every) == row["n"]
        for prompt in itertools.compress(every, keep):
            digest.update(prompt.encode() + b"\0")
        assert digest.hexdigest() == row["sha256"], row
