"""Which prompts begin alike, so that their beginning is read once for all of them."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

_LEAST_TOKENS = 24  # a shorter beginning is not worth a place of its own
_LEAST_PROMPTS = 3  # nor is one of fewer prompts


@dataclasses.dataclass(frozen=True)
class PromptGroup:
    """Prompts of one beginning."""

    length: int  # tokens of the beginning; 0: they have none in common
    members: list[int]  # indices of the prompts


def group_prompts(
    prompts: Sequence[Int[np.ndarray, " _"]], most: Sequence[int]
) -> list[PromptGroup]:
    """Every prompt in one group; prompts that share nothing come last, in a group of length 0.

    Args:
      prompts: Token ids.
      most: How much of each may belong to a beginning; at least one token must stay behind it.
    """
    keys = [
        prompt[:length].astype(">u4").tobytes()
        for prompt, length in zip(prompts, most, strict=True)
    ]
    order = sorted(range(len(prompts)), key=keys.__getitem__)
    alone: list[int] = []
    groups = _split(keys, order, 0, alone)
    return groups + ([PromptGroup(0, sorted(alone))] if alone else [])


def _split(keys: list[bytes], order: list[int], known: int, alone: list[int]) -> list[PromptGroup]:
    """Groups of prompts, in the order of their keys, that share `known` tokens at least.

    A beginning is taken apart where some of its prompts share a good deal more than the others.
    """
    length = _common_tokens(keys[order[0]], keys[order[-1]])
    branches: dict[bytes, list[int]] = defaultdict(list)
    for index in order:
        branches[keys[index][4 * length :][: 4 * _LEAST_TOKENS]].append(index)
    groups, rest = [], []
    for start, members in branches.items():
        if len(members) >= _LEAST_PROMPTS and len(start) == 4 * _LEAST_TOKENS:
            groups += _split(keys, members, length, alone)
        else:
            rest += members
    if len(rest) >= _LEAST_PROMPTS and length >= _LEAST_TOKENS:
        return [*groups, PromptGroup(length, sorted(rest))]
    alone += rest
    return groups


def _common_tokens(first: bytes, last: bytes) -> int:
    """Tokens that the first and last of sorted keys share, and so all between them."""
    one, other = (np.frombuffer(key, ">u4") for key in (first, last))
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if differs.size else size
