"""Few-shot prompts: header, k demonstrations, the test sentence; joined by newlines.

Demonstrations are drawn for the whole test split in file order from one generator, so those of
an item depend on its position: never subsample the test split before drawing.
"""

import functools
import random
from collections.abc import Iterable, Iterator

from sentidistill_jax.evaluation.data import Dataset
from sentidistill_jax.evaluation.gold import demonstration_label


def prompts(dataset: Dataset, seed: int, k: int) -> Iterator[str]:
    """Yields the prompt of every test item in file order.

    Args:
      dataset: The data.
      seed: Seed of the demonstrations; published runs use 42, 52 and 62.
      k: Demonstrations per prompt; 4 in the published protocol.

    Yields:
      Prompts that end in `Label:`, without a space or newline after it.

    Raises:
      ValueError: If k is negative or larger than the pool.
    """
    for index in range(len(dataset.test)):
        yield build_prompt(dataset, index, seed, k)


def build_prompt(dataset: Dataset, index: int, seed: int, k: int, *, dropped: int = 0) -> str:
    """Returns the prompt of one test item; see `prompts`.

    Args:
      dataset: The data.
      index: Position in the test split, from 0.
      seed: Seed of the demonstrations.
      k: Demonstrations drawn per prompt.
      dropped: How many of them to leave out, those furthest from the test sentence first.

    Returns:
      The prompt.

    Raises:
      IndexError: If there is no such test item.
      ValueError: If k is negative or larger than the pool.
    """
    if not 0 <= index < len(dataset.test):
        raise IndexError(
            f"index={index} is outside the {len(dataset.test)} test items of {dataset.task.name}."
        )
    return render(
        header(dataset, index),
        demonstrations(dataset, index, seed, k)[dropped:],
        dataset.test[index]["sentence"],
    )


def header(dataset: Dataset, index: int) -> str:
    """Returns the first paragraph of a test item's prompt."""
    task = dataset.task
    return task.header % dataset.test[index]["target"] if task.has_target else task.header


def demonstrations(dataset: Dataset, index: int, seed: int, k: int) -> list[tuple[str, str]]:
    """Returns the (sentence, label text) pairs that a test item's prompt shows, in order."""
    drawn = draw_demonstrations(len(dataset.train), len(dataset.test), seed, k)[index]
    labels = _demonstration_labels(dataset)
    return [(dataset.train[i]["sentence"], labels[i]) for i in drawn]


def render(header: str, demonstrations: Iterable[tuple[str, str]], sentence: str) -> str:
    """Lays out a prompt.

    Args:
      header: First paragraph.
      demonstrations: (sentence, label text) pairs in the order shown.
      sentence: The sentence to be labelled.

    Returns:
      The prompt, ending in `Label:`.
    """
    shown = (f"Sentence: {text}\nLabel: {label}\n\n" for text, label in demonstrations)
    return f"{header}\n\n{''.join(shown)}Sentence: {sentence}\nLabel:"


@functools.lru_cache(maxsize=64)  # a single-item access costs one draw of the whole split, once
def draw_demonstrations(
    pool_size: int, num_items: int, seed: int, k: int
) -> tuple[tuple[int, ...], ...]:
    """Draws k distinct demonstrations for each item, as indices into the pool.

    Args:
      pool_size: Items to draw from.
      num_items: Test items; each gets one draw, in order.
      seed: Seed of Python's Mersenne twister.
      k: Demonstrations per item.

    Returns:
      One tuple of k indices per item, in the order shown.

    Raises:
      ValueError: If k is negative or larger than the pool.
    """
    if not 0 <= k <= pool_size:
        raise ValueError(
            f"k={k} demonstrations cannot be drawn from a pool of {pool_size}; "
            f"choose 0 to {pool_size}."
        )
    generator = random.Random(seed)
    pool = range(pool_size)
    return tuple(tuple(generator.sample(pool, k)) for _ in range(num_items))


@functools.lru_cache(maxsize=32)
def _demonstration_labels(dataset: Dataset) -> tuple[str, ...]:
    return tuple(demonstration_label(dataset.task, item) for item in dataset.train)
