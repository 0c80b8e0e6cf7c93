"""What an engine is asked and what it answers, on the host."""

import dataclasses

import numpy as np
from jaxtyping import Int

from sentidistill_jax.inference.distribution import SparseDistribution


@dataclasses.dataclass(frozen=True)
class ScoreRequest:
    """Asks for the distributions that predict positions `start` .. `start + count - 1`.

    Raises:
      ValueError: If the fields do not fit together.
    """

    tokens: Int[np.ndarray, " seq"]  # may end before the last predicted position's token
    start: int  # first predicted position; at least 1, since something must predict it
    count: int
    chosen: Int[np.ndarray, "count chosen"]  # tokens kept whatever their rank; -1 is padding
    seed: int = 0  # of draws, 0 to 2**31 - 1

    def __post_init__(self):
        if self.start < 1 or self.count < 1 or len(self.tokens) < self.start + self.count - 1:
            raise ValueError(
                f"a score request has start={self.start}, count={self.count} and"
                f" {len(self.tokens)} tokens; expected start and count of at least 1 and"
                " start + count - 1 tokens or more."
            )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"a score request has seed={self.seed}; expected 0 to 2**31 - 1.")
        if self.chosen.ndim != 2 or len(self.chosen) != self.count:
            raise ValueError(
                f"a score request of count={self.count} has chosen of shape {self.chosen.shape},"
                f" expected ({self.count}, any)."
            )

    @property
    def inputs(self) -> Int[np.ndarray, " seq"]:
        """The tokens that must be read: what comes after them predicts nothing asked for."""
        return self.tokens[: self.start + self.count - 1]


@dataclasses.dataclass(frozen=True)
class GenerateRequest:
    """Asks for a continuation.

    Raises:
      ValueError: If there is nothing to continue, or the seed is out of range.
    """

    tokens: Int[np.ndarray, " seq"]  # at least one
    seed: int = 0  # 0 to 2**31 - 1
    chosen: Int[np.ndarray, " chosen"] = dataclasses.field(
        default_factory=lambda: np.zeros((0,), np.int32)
    )

    def __post_init__(self):
        if not len(self.tokens) or not 0 <= self.seed < 2**31:
            raise ValueError(
                f"a generate request has {len(self.tokens)} tokens and seed={self.seed}; expected"
                " at least one token and a seed from 0 to 2**31 - 1."
            )


@dataclasses.dataclass(frozen=True)
class Generation:
    """A continuation."""

    tokens: Int[np.ndarray, " generated"]  # the stop token included when one ended it
    stopped: bool  # False: the budget ended it
    distribution: SparseDistribution | None  # [generated, ...] as it was when each was drawn
