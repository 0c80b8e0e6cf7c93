import hashlib
import itertools

import pytest

from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.prompts import draw_demonstrations
from sentidistill_jax.evaluation.task import Dataset

from .golden import read_vectors

POOL, ITEMS = 30, 12


@pytest.fixture
def stance() -> Dataset:
    def items(split, count):
        return tuple(
            {"sentence": f"{split} {i} 100%", "target": f"Person {i}", "label": "AGAINST"}
            for i in range(count)
        )

    return Dataset(
        SENTIBENCH.tasks["multifaced/pstance"], items("train", POOL), items("test", ITEMS)
    )


def test_layout(stance):
    first, second = draw_demonstrations(POOL, ITEMS, 42, 2)[5]
    assert stance.prompt(5, seed=42, k=2) == (
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
    assert stance.prompt(0, 42, 0).count("Label:") == 1


def test_a_prompt_can_drop_its_first_demonstrations_and_change_its_sentence(stance):
    whole, shorter = (stance.prompt(5, 42, 3, dropped=dropped) for dropped in (0, 2))
    assert shorter.count("Label:") == 2
    assert whole.endswith(shorter.split("\n\n", 1)[1])
    assert stance.prompt(5, 42, 3, sentence="N/A") == whole.replace("test 5 100%", "N/A")


def test_development_items_come_from_the_training_split(stance):
    found = stance.development_set(2)
    assert found.test == stance.train[-2:] and found.train == stance.train[:-2]


def test_generations_of_label_tasks_are_never_read(stance):
    with pytest.raises(ValueError, match="pstance is a label task: its generations are never"):
        stance.task.extract_answer(" favor")
    with pytest.raises(ValueError, match="pstance is a label task"):
        stance.task.parse_answer("favor", "")


def test_limits_are_checked(stance):
    with pytest.raises(IndexError, match=r"index=12 is outside the 12 test items of multifaced/"):
        stance.prompt(ITEMS, 42, 4)
    with pytest.raises(IndexError, match=r"index=-1"):
        stance.prompt(-1, 42, 4)
    with pytest.raises(ValueError, match=r"k=31 demonstrations cannot be drawn from a pool of 30"):
        stance.prompt(0, 42, POOL + 1)


@pytest.mark.golden
@pytest.mark.sentibench
def test_official_prompts(golden_dir, sentibench_dir):
    for row in read_vectors(golden_dir / "prompts.jsonl"):
        dataset = SENTIBENCH.load(row["dataset"], sentibench_dir)
        sizes = len(dataset.train), len(dataset.test)
        index, seed, k = row["test_index"], row["seed"], row["k"]
        drawn = draw_demonstrations(*sizes, seed, k)[index]
        assert list(drawn) == row["demo_indices"], row["id"]
        legal = [row["prompt"]] if row["stable"] else row["alternatives"]
        assert dataset.prompt(index, seed, k) in legal, row["id"]


@pytest.mark.golden
@pytest.mark.sentibench
def test_official_digests_of_all_prompts(golden_dir, sentibench_dir):
    for row in read_vectors(golden_dir / "prompts_digest.jsonl"):
        dataset = SENTIBENCH.load(row["dataset"], sentibench_dir)
        keep = [index not in set(row["skipped_unstable"]) for index in range(row["n"])]
        digest = hashlib.sha256()
        every = [dataset.prompt(index, row["seed"], row["k"]) for index in range(row["n"])]
        assert len(dataset.test) == row["n"]
        for prompt in itertools.compress(every, keep):
            digest.update(prompt.encode() + b"\0")
        assert digest.hexdigest() == row["sha256"], row
