"""A loaded model as SentiBench's evaluator asks it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.evaluation.extract import is_complete
from sentidistill_jax.evaluation.model import Completion
from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.generation_settings import GenerationSettings
from sentidistill_jax.inference.label_scoring import encode, encode_prompt, label_ids
from sentidistill_jax.inference.sampling import SamplingConfig


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """Implements `evaluation.model.Model` with an engine.

    Answers depend on the prompt alone: not on batch sizes, and not on the mesh beyond rounding.
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationSettings
    chat_template: bool = False  # the prompt becomes a user's message
    left_truncate_to: int | None = None  # tokens; the end of a longer prompt is read

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt, before any truncation."""
        return [len(self._tokens(prompt)) for prompt in prompts]

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "prompts labels"]:
        """Full-vocabulary logprobs of the words' first tokens; see `evaluation.model.Model`.

        After a chat template an answer starts a message, so the words lose their leading space.
        """
        words = [word.lstrip() for word in label_words] if self.chat_template else label_words
        ids = label_ids(self.tokenizer, words)
        tokens = [self._read(prompt) for prompt in prompts]
        scores = np.zeros((len(prompts), len(ids)), np.float32)
        with tqdm(total=len(prompts), desc=progress, unit="text", disable=progress is None) as bar:
            requests = [ScoreRequest(prompt, len(prompt), 1, ids[None]) for prompt in tokens]
            for index, distribution in self.engine.score(
                requests, k=1, repetition_penalty=self.generation.repetition_penalty
            ):
                scores[index] = distribution.chosen_logprobs[0]
                bar.update()
        return scores

    def complete(
        self, prompts: Sequence[str], max_new_tokens: int, *, progress: str | None = None
    ) -> list[Completion]:
        """Greedy continuations, each up to where its answer is complete."""
        tokens = [self._read(prompt) for prompt in prompts]
        found: dict[int, Completion] = {}

        def ended(continuation: np.ndarray) -> bool:
            return is_complete(self._text(continuation))

        with tqdm(total=len(prompts), desc=progress, unit="text", disable=progress is None) as bar:
            sampling = SamplingConfig(
                max_new_tokens=max_new_tokens,
                repetition_penalty=self.generation.repetition_penalty,
            )
            requests = [GenerateRequest(prompt) for prompt in tokens]
            for index, generation in self.engine.generate(
                requests, sampling, stop_ids=self.generation.stop_ids, is_complete=ended
            ):
                found[index] = Completion(self._text(generation.tokens), generation.stopped)
                bar.update()
        return [found[index] for index in range(len(prompts))]

    def _tokens(self, prompt: str) -> np.ndarray:
        if not self.chat_template:
            return encode_prompt(self.tokenizer, prompt)
        message = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        return encode(self.tokenizer, str(message))  # the template writes the special tokens

    def _read(self, prompt: str) -> np.ndarray:
        tokens = self._tokens(prompt)
        return tokens if self.left_truncate_to is None else tokens[-self.left_truncate_to :]

    def _text(self, tokens: np.ndarray) -> str:
        return str(
            self.tokenizer.decode(
                tokens,
                skip_special_tokens=True,
                clean_up_tokenization_spaces=self.generation.clean_up_spaces,
            )
        )
