"""Prompts of a data set, and what happens to those that a model has no room for."""

import dataclasses
from collections.abc import Callable, Sequence

from sentidistill_jax.evaluation.task import Dataset

TOO_LONG = ("refuse", "drop_demonstrations", "left_truncate")


@dataclasses.dataclass(frozen=True)
class TruncatedPrompts:
    """The prompts of the first items of a test split, as far as a model has room for them."""

    texts: list[str]
    lengths: list[int] | None  # tokens of each; None if the model does not tell
    too_long: int  # prompts over the limit
    dropped: list[int]  # demonstrations left out of each

    @property
    def report(self) -> dict[str, float | int | None]:
        """Entry of scores.json about these prompts."""
        lengths = self.lengths
        return {
            "tokens_mean": sum(lengths) / len(lengths) if lengths else None,
            "tokens_max": max(lengths) if lengths else None,
            "too_long": self.too_long,
            "demonstrations_dropped": sum(self.dropped),
        }


def truncate_prompts(
    dataset: Dataset,
    seed: int,
    k: int,
    *,
    examples: int,
    limit: int,
    too_long: str,
    lengths_of: Callable[[Sequence[str]], list[int] | None],
) -> TruncatedPrompts:
    """Builds prompts of at most `limit` tokens.

    Args:
      dataset: The data.
      seed: Seed of the demonstrations.
      k: Demonstrations per prompt.
      examples: The first so many items of the test split.
      limit: Most tokens of a prompt.
      too_long: `refuse`: a longer prompt is an error, since the reference never truncates;
        `drop_demonstrations`: the ones furthest from the test sentence go, as many as needed;
        `left_truncate`: counted here and cut by the model, which reads the last `limit` tokens.
      lengths_of: Tokens of each prompt, or None if the model does not tell.

    Returns:
      The prompts and what was done to them.

    Raises:
      ValueError: If `too_long` is not known, or a prompt cannot be made to fit.
    """
    if too_long not in TOO_LONG:
        raise ValueError(f"too_long={too_long!r} must be one of {list(TOO_LONG)}.")
    texts = [dataset.prompt(index, seed, k) for index in range(examples)]
    dropped = [0] * examples
    lengths = lengths_of(texts)
    if lengths is None:
        return TruncatedPrompts(texts, None, 0, dropped)
    over = [index for index, length in enumerate(lengths) if length > limit]
    num_over = len(over)
    if over and too_long == "refuse":
        raise ValueError(
            f"{num_over} of {examples} prompts of {dataset.task.name} exceed {limit} tokens (the"
            f" longest has {max(lengths)}); raise max_prompt_length if the"
            " model has room, or set too_long to one of"
            f" {list(TOO_LONG[1:])}."
        )
    while over and too_long == "drop_demonstrations":
        if any(dropped[index] == k for index in over):
            raise ValueError(
                f"a prompt of {dataset.task.name} exceeds {limit} tokens even without"
                " demonstrations; set too_long=left_truncate."
            )
        for index in over:
            dropped[index] += 1
            texts[index] = dataset.prompt(index, seed, k, dropped=dropped[index])
        shortened = lengths_of([texts[index] for index in over]) or []
        for index, length in zip(over, shortened, strict=True):
            lengths[index] = length
        over = [index for index in over if lengths[index] > limit]
    if too_long == "left_truncate":
        lengths = [min(length, limit) for length in lengths]
    return TruncatedPrompts(texts, lengths, num_over, dropped)
