"""Prompts are grouped by what they share, and every prompt is in one group."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sentidistill_jax.inference.shared_beginnings import group_prompts


def _prompts(*counts, shared=40, own=5, seed=0):
    rng = np.random.default_rng(seed)
    beginnings = [rng.integers(0, 1000, shared) for _ in counts]
    return [
        np.concatenate([beginning, rng.integers(0, 1000, own)]).astype(np.int32)
        for count, beginning in zip(counts, beginnings, strict=True)
        for _ in range(count)
    ]


def _most(prompts):
    return [len(prompt) - 1 for prompt in prompts]


def test_prompts_of_one_beginning_are_a_group_and_the_others_share_nothing():
    prompts = _prompts(5, 1, 4)
    groups = {
        tuple(group.members): group.length for group in group_prompts(prompts, _most(prompts))
    }
    assert groups[0, 1, 2, 3, 4] >= 40 and groups[6, 7, 8, 9] >= 40
    assert groups[(5,)] == 0


def test_a_beginning_is_taken_apart_where_some_share_more():
    common = np.arange(30)
    rng = np.random.default_rng(0)
    branches = [np.concatenate([common, rng.integers(100, 200, 50)]) for _ in range(2)]
    prompts = [
        np.concatenate([branch, rng.integers(0, 99, 4)]).astype(np.int32)
        for branch in branches
        for _ in range(4)
    ]
    prompts += [
        np.concatenate([common, rng.integers(300, 400, 9)]).astype(np.int32) for _ in range(3)
    ]
    found = {tuple(group.members): group.length for group in group_prompts(prompts, _most(prompts))}
    assert found == {(0, 1, 2, 3): 80, (4, 5, 6, 7): 80, (8, 9, 10): 30}


def test_equal_prompts_keep_a_token_of_their_own():
    prompts = [np.arange(50, dtype=np.int32)] * 4
    (group,) = group_prompts(prompts, _most(prompts))
    assert group.length == 49 and group.members == [0, 1, 2, 3]


def test_what_is_asked_about_is_no_part_of_a_beginning():
    prompts = [np.arange(90, dtype=np.int32)] * 3
    (group,) = group_prompts(prompts, [70, 35, 80])
    assert group.length == 35


def test_a_short_beginning_or_one_of_few_prompts_is_not_shared():
    short = _prompts(6, shared=10)
    (group,) = group_prompts(short, _most(short))
    assert group.length == 0 and group.members == list(range(6))
    few = _prompts(2, 2)
    (group,) = group_prompts(few, _most(few))
    assert group.length == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60), min_size=1, max_size=30))
def test_every_prompt_is_in_one_group_and_begins_as_its_group_does(texts):
    prompts = [np.array(text, np.int32) for text in texts]
    groups = group_prompts(prompts, _most(prompts))
    assert sorted(index for group in groups for index in group.members) == list(range(len(prompts)))
    for group in groups:
        beginnings = {tuple(prompts[index][: group.length]) for index in group.members}
        assert len(beginnings) == 1
        assert all(len(prompts[index]) > group.length for index in group.members)
