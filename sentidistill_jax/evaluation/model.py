"""A server's model as the evaluator asks it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sentidistill_jax.language_model import Completion


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A server's model, of which no tokens are known.

    Args:
      client: Has `label_logprobs` as `LanguageModel` has it, and `complete(prompts,
        max_new_tokens=..., stop=..., progress=...)` that returns texts, each up to the first stop.
    """

    client: Any

    @property
    def name(self) -> str:
        """See `LanguageModel`."""
        return self.client.name

    def prompt_lengths(self, prompts: Sequence[str]) -> None:
        """None: the server refuses or cuts what it has no room for."""
        del prompts

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "prompts labels"]:
        """See `LanguageModel`."""
        return self.client.label_logprobs(prompts, label_words, progress=progress)

    def complete(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        stop: Sequence[str] = (),
        is_complete: Callable[[str], bool] | None = None,
        progress: str | None = None,
    ) -> list[Completion]:
        """See `LanguageModel`."""
        del is_complete
        texts = self.client.complete(
            prompts, max_new_tokens=max_new_tokens, stop=tuple(stop), progress=progress
        )
        return [Completion(text, None) for text in texts]
