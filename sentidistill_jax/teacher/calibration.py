"""Label bias out of few-shot predictions: offsets on a pool, then averages over draws.

A small teacher knows more about sentiment than its argmax shows: each prompt shifts all its label
scores one way. The shift is estimated on unlabelled texts, so no human label is needed.
"""

import numpy as np

_ITERATIONS = 200


def _log_normalise(logprobs: np.ndarray) -> np.ndarray:
    return logprobs - np.logaddexp.reduce(logprobs, axis=-1, keepdims=True)


def fit_offset(logprobs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The offset under which the average prediction over a pool equals the class prior.

    Args:
      logprobs: Label scores on pool texts, [texts, labels].
      prior: Expected share of each label in the pool, [labels]; sums to 1.

    Returns:
      What to add to the scores, [labels].

    Source: matching the average prediction and the prior follows Saerens et al. 2002 (prior
    correction); contextual calibration (arXiv:2102.09690) divides by one content-free input.
    """
    offset = np.zeros(logprobs.shape[-1])
    for _ in range(_ITERATIONS):
        mean = np.exp(_log_normalise(logprobs + offset)).mean(axis=0)
        step = np.log(prior) - np.log(mean)
        offset += step
        if np.abs(step).max() < 1e-6:
            break
    return offset - offset.mean()


def fit_offsets(logprobs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """An offset for every demonstration draw, [draws, labels], from [texts, draws, labels]."""
    return np.stack([fit_offset(logprobs[:, draw], prior) for draw in range(logprobs.shape[1])])


def ensemble(logprobs: np.ndarray, offsets: np.ndarray | None) -> np.ndarray:
    """Normalised label logprobs averaged over draws in log space.

    Args:
      logprobs: Label scores, [texts, draws, labels].
      offsets: From `fit_offsets`, [draws, labels]; None leaves the label bias in.

    Returns:
      Logprobs over the labels, [texts, labels].
    """
    shifted = logprobs if offsets is None else logprobs + offsets
    return _log_normalise(shifted.mean(axis=1)).astype(np.float32)
