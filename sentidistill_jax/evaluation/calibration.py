"""Calibration of few-shot label scores without any label: variants, never the official number."""

import numpy as np
from jaxtyping import Float

# Stands in the place of the test sentence (Zhao et al. 2021, section 5).
CONTENT_FREE = "N/A"

Logprobs = Float[np.ndarray, "examples labels"]


def contextual(logprobs: Logprobs, content_free: Logprobs) -> Logprobs:
    """Contextual calibration: divides by what the same prompt says of a content-free text.

    Args:
      logprobs: Scores of the label words.
      content_free: Those after the same demonstrations and `CONTENT_FREE`.

    Returns:
      Normalized logprobs.

    Source: Zhao et al. 2021 (arXiv:2102.09690).
    """
    return _normalize(_normalize(logprobs) - _normalize(content_free))


def batch(logprobs: Logprobs) -> Logprobs:
    """Batch calibration: divides by the mean prediction over all examples.

    Args:
      logprobs: Scores of the label words on a whole set; at least one example.

    Returns:
      Normalized logprobs.

    Source: Zhou et al. 2024 (arXiv:2309.17249), equation 6.
    """
    normalized = _normalize(logprobs)
    mean = np.logaddexp.reduce(normalized, axis=0) - np.log(len(normalized))
    return _normalize(normalized - mean)


def _normalize(logprobs: Logprobs) -> Logprobs:
    wide = logprobs.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)
