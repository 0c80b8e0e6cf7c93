"""Log-probabilities of label words after a prompt: what label tasks are answered with."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.inference.engine import Engine, ScoreRequest


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Int[np.ndarray, " seq"]:
    """Token ids of a text as it stands, without special tokens."""
    return np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> Int[np.ndarray, " seq"]:
    """Token ids of a prompt: with whatever the tokenizer puts before a text."""
    return np.asarray(tokenizer(text)["input_ids"], np.int32)


def label_ids(
    tokenizer: PreTrainedTokenizerBase, label_words: Sequence[str]
) -> Int[np.ndarray, " labels"]:
    """First token of each label word.

    Raises:
      ValueError: If a word is empty, or two begin with the same token, since no score could tell
        them apart.
    """
    if not all(label_words):
        raise ValueError(f"label words {list(label_words)} must not be empty; name every label.")
    ids = np.array([encode(tokenizer, word)[0] for word in label_words], np.int32)
    for index, token in enumerate(ids):
        earlier = np.flatnonzero(ids[:index] == token)
        if earlier.size:
            first, second = label_words[earlier[0]], label_words[index]
            raise ValueError(
                f"label words {first!r} and {second!r} both begin with token {int(token)}"
                f" ({tokenizer.decode([int(token)])!r}), so they cannot be told apart; choose other"
                " words or another tokenizer."
            )
    return ids


def score_labels(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    label_words: Sequence[str],
    *,
    progress: str | None = None,
) -> Float[np.ndarray, "prompts labels"]:
    """Scores every label word as the next word of every prompt.

    Args:
      engine: Runs the model; a beginning that all prompts share is read once.
      tokenizer: Its tokenizer.
      prompts: Texts that end right before the answer.
      label_words: With the leading space where the prompt ends without one.
      progress: Name of a progress bar; none without.

    Returns:
      Full-vocabulary logprobs of the words' first tokens, float32.

    Raises:
      ValueError: If a label word is empty, or two begin with the same token.
    """
    ids = label_ids(tokenizer, label_words)
    requests = []
    for prompt in prompts:
        tokens = encode_prompt(tokenizer, prompt)
        requests.append(ScoreRequest(tokens, len(tokens), 1, ids[None]))
    scores = np.zeros((len(prompts), len(ids)), np.float32)
    with tqdm(total=len(prompts), desc=progress, unit="text", disable=progress is None) as bar:
        for index, distribution in engine.score(requests, k=1):
            scores[index] = distribution.chosen_logprobs[0]
            bar.update()
    return scores
