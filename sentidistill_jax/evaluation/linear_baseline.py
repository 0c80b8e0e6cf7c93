"""What a user would take instead of a student: TF-IDF and logistic regression on its labels."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

# Texts to logprobs [texts, labels].
Classifier = Callable[[Sequence[str]], Float[np.ndarray, "texts labels"]]


def fit_linear(
    texts: Sequence[str], labels: Int[np.ndarray, " texts"], num_labels: int
) -> Classifier:
    """Fits logistic regression on the TF-IDF weights of words and pairs of words.

    Args:
      texts: To learn from.
      labels: Of each, from 0.
      num_labels: How many there are; each must occur.

    Raises:
      ImportError: If scikit-learn is not installed.
      ValueError: If a label does not occur.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise ImportError(
            "the linear baseline needs scikit-learn; install the extra `baselines`."
        ) from error
    missing = sorted(set(range(num_labels)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"no text has label {missing[0]}; the linear baseline needs all labels.")
    # The strength that scikit-learn's own text examples use; chosen before any score was seen.
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=1000),
    )
    model.fit(list(texts), labels)
    return lambda asked: model.predict_log_proba(list(asked))
