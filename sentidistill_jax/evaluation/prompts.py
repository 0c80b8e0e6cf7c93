"""Few-shot prompts: their layout, where an answer to one ends, and who is shown in them."""

import dataclasses
import functools
import random
from collections.abc import Callable, Iterable

_NEXT_EXAMPLE = "Sentence:"


def render(header: str, demonstrations: Iterable[tuple[str, str]], sentence: str) -> str:
    """Lays out a prompt.

    Args:
      header: First paragraph.
      demonstrations: (sentence, label text) pairs in the order shown.
      sentence: The sentence to be labelled.

    Returns:
      The prompt, ending in `Label:`, without a space or newline after it.
    """
    shown = (f"Sentence: {text}\nLabel: {label}\n\n" for text, label in demonstrations)
    return f"{header}\n\n{''.join(shown)}Sentence: {sentence}\nLabel:"


def extract_answer(generation: str, *, lenient: bool = False) -> str:
    """Cuts the answer out of the text a model generated after a prompt.

    Leading whitespace is skipped, newlines included; the answer ends at the next newline or at
    `Sentence:`; trailing whitespace goes. So an answer on the second line is read, but of a
    fenced or several-line answer only the first line is (docs/fidelity.md, Q7).

    Args:
      generation: The continuation alone, decoded without special tokens.
      lenient: Ends the answer at `Sentence:` only, so that all its lines are kept.

    Returns:
      The answer, possibly empty.
    """
    answer = generation.lstrip().split(_NEXT_EXAMPLE, 1)[0]
    if not lenient:
        answer = answer.split("\n", 1)[0]
    return answer.rstrip()


def is_complete(generation: str) -> bool:
    """Returns whether nothing that may still follow a generation can change its answer."""
    answer = generation.lstrip()
    return "\n" in answer or _NEXT_EXAMPLE in answer


@dataclasses.dataclass(frozen=True)
class PromptFormat:
    """A layout of prompts, and how the answers to them are found in what a model writes."""

    render: Callable[[str, Iterable[tuple[str, str]], str], str] = render
    extract: Callable[..., str] = extract_answer  # (generation, *, lenient)
    is_complete: Callable[[str], bool] = is_complete
    # No newline: an answer may follow on the second line.
    stop: tuple[str, ...] = (_NEXT_EXAMPLE,)


FEW_SHOT = PromptFormat()


@functools.lru_cache(maxsize=64)  # a single-item access costs one draw of the whole split, once
def draw_demonstrations(
    pool_size: int, num_items: int, seed: int, k: int
) -> tuple[tuple[int, ...], ...]:
    """Draws k distinct demonstrations for each item, as indices into the pool.

    They are drawn for the whole test split in file order from one generator, so those of an item
    depend on its position: never subsample the test split before drawing.

    Args:
      pool_size: Items to draw from.
      num_items: Test items; each gets one draw, in order.
      seed: Seed of Python's Mersenne twister; published runs use 42, 52 and 62.
      k: Demonstrations per item; 4 in the published protocol.

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
