"""Log-probabilities of label words from what a server lists at one position, or from its text."""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from sentidistill_jax.endpoint.protocol import Answer

# Share of a label that the text names; the rest is shared by the others.
_NAMED_MASS = 0.98


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """What a server thinks of some label words, one row per prompt."""

    logprobs: np.ndarray  # float32 [prompts, labels]; a row that is not answered is uniform
    answered: np.ndarray  # bool [prompts]; False: neither the list nor the text has a label word

    @property
    def predicted(self) -> np.ndarray:
        """Index of the likeliest label, int [prompts]; -1 where there is none."""
        return np.where(self.answered, self.logprobs.argmax(axis=1), -1)


def score_answers(
    answers: Sequence[Answer], label_words: Sequence[str], *, exact: bool
) -> LabelScores:
    """Scores label words as the beginning of answers.

    The probability of a word is that of all listed first tokens that begin it and no other label
    word, which needs no tokenizer. A word that is not listed gets an upper bound: the last listed
    logprob, or an equal share of the mass that the list leaves. Where no word is listed, the first
    one that the text names counts.

    Args:
      answers: Greedy, to prompts that end right before the label.
      label_words: With the leading space where prompts end without one.
      exact: Whether spaces and case must agree, as in a completion; a chat answer has its own.

    Raises:
      ValueError: If a label word is empty or begins another one.
    """
    words = [_plain(word, exact) for word in label_words]
    for index, word in enumerate(words):
        if not word or any(other.startswith(word) for other in words[:index] + words[index + 1 :]):
            raise ValueError(
                f"label words {list(label_words)}: {label_words[index]!r} must neither be empty nor"
                " begin another one; choose other words."
            )
    logprobs = np.full((len(answers), len(words)), -math.log(len(words)), np.float32)
    answered = np.zeros((len(answers),), np.bool_)
    for row, answer in enumerate(answers):
        scores = _listed(answer.tokens[0].candidates, words, exact) if answer.tokens else None
        if scores is None:
            scores = _named(answer.text, words)
        if scores is not None:
            logprobs[row], answered[row] = scores, True
    return LabelScores(logprobs, answered)


def logprob_upper_bound(
    kept: Collection[float], missing: int, *, least: float = 0.0
) -> tuple[float, float]:
    """What can be said of tokens that a list lacks: each has at most the last listed logprob.

    Args:
      kept: Logprobs of the tokens that are known.
      missing: How many others are wanted.
      least: The last listed logprob.

    Returns:
      The logprob to assume for each missing token (the bound, or an equal share of the mass that
      is left, if that is less), and the log mass of the rest. Some rest there always is, at least
      1e-9: servers round.
    """
    rest = max(1.0 - math.fsum(map(math.exp, kept)), 1e-9)
    each = min(math.exp(least), rest / (missing + 1))
    return math.log(each), math.log(rest - missing * each)


def _listed(
    candidates: Mapping[str, float], words: Sequence[str], exact: bool
) -> np.ndarray | None:
    mass = np.zeros((len(words),))
    for name, logprob in candidates.items():
        token = _plain(name, exact)
        begun = [index for index, word in enumerate(words) if token and word.startswith(token)]
        if len(begun) == 1:
            mass[begun[0]] += math.exp(logprob)
    if not mass.any():
        return None
    logprobs = candidates.values()
    estimate, _ = logprob_upper_bound(logprobs, int((mass == 0).sum()), least=min(logprobs))
    with np.errstate(divide="ignore"):
        return np.where(mass > 0, np.log(mass), estimate).astype(np.float32)


def _named(text: str, words: Sequence[str]) -> np.ndarray | None:
    patterns = (re.escape(word.strip().casefold()) for word in words)
    found = re.search("|".join(rf"\b({pattern})\b" for pattern in patterns), text.casefold())
    if found is None or found.lastindex is None:
        return None
    scores = np.full((len(words),), math.log((1 - _NAMED_MASS) / max(len(words) - 1, 1)))
    scores[found.lastindex - 1] = math.log(_NAMED_MASS)
    return scores.astype(np.float32)


def _plain(text: str, exact: bool) -> str:
    return text if exact else text.strip().casefold()
