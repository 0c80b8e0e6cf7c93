"""A loaded model that answers prompts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.generation_settings import (
    GenerationSettings,
    generation_settings,
)
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.inference.tokens import encode_chat, encode_prompt, label_ids
from sentidistill_jax.language_model import AnswerSettings, Completion, before
from sentidistill_jax.models.load import LoadedModel, tokenizer_fingerprint


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """A `LanguageModel` of an engine.

    Answers depend on the prompt alone: not on batch sizes, and not on the mesh beyond rounding.
    """

    loaded: LoadedModel
    engine: Engine
    generation: GenerationSettings
    settings: AnswerSettings = AnswerSettings()

    @classmethod
    def on_mesh(
        cls, loaded: LoadedModel, mesh: Mesh, *, tokens_per_batch: int = 0, max_num_seqs: int = 0
    ) -> "LocalModel":
        """A model as it stands, without a repetition penalty or a chat template.

        Args:
          loaded: The model.
          mesh: Where its parameters are.
          tokens_per_batch: Tokens that one forward pass reads; 0: what suits the platform.
          max_num_seqs: Answers under way at one time; 0: what suits the platform.
        """
        pad: Any = loaded.tokenizer.pad_token_id
        engine = Engine(
            loaded.decoder, mesh, pad_id=pad or 0, tokens_per_batch=tokens_per_batch,
            max_num_seqs=max_num_seqs,
        )  # fmt: skip
        return cls(loaded, engine, generation_settings({}, loaded.tokenizer))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    @property
    def name(self) -> str:
        """Where it was loaded from."""
        return self.loaded.source

    @property
    def origin(self) -> dict[str, Any]:
        """Source, dtype, and hashes of weights and tokenizer."""
        return {
            "source": self.loaded.source,
            "weights": self.loaded.fingerprint,
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "dtype": str(self.loaded.decoder.dtype),
        }

    @property
    def decoding(self) -> dict[str, Any]:
        """Repetition penalty and cleaning of spaces, and where each is from."""
        settings = dataclasses.asdict(self.generation)
        return {name: value for name, value in settings.items() if name != "stop_ids"}

    @property
    def max_position(self) -> int:
        """Tokens that it has room for, its own included."""
        return self.engine.config.max_position

    def with_settings(self, settings: AnswerSettings) -> "LocalModel":
        """The model as it answers under other settings, where they leave it open its own.

        Raises:
          ValueError: If the tokenizer has no chat template to apply, or the checkpoint asks for
            what greedy decoding here does not know.
        """
        if settings.chat_template and not self.tokenizer.chat_template:
            raise ValueError(
                "chat_template=True needs a tokenizer with a chat template; that of"
                f" {self.name!r} has none."
            )
        generation = generation_settings(
            self.loaded.generation,
            self.tokenizer,
            repetition_penalty=settings.repetition_penalty,
            clean_up_spaces=settings.clean_up_spaces,
        )
        return dataclasses.replace(self, settings=settings, generation=generation)

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt, before any truncation."""
        return [len(self._tokens(prompt)) for prompt in prompts]

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "prompts labels"]:
        """Full-vocabulary logprobs of the words' first tokens; see `LanguageModel`.

        After a chat template an answer starts a message, so the words lose their leading space.
        """
        chat = self.settings.chat_template
        ids = label_ids(self.tokenizer, [w.lstrip() if chat else w for w in label_words])
        scores = np.zeros((len(prompts), len(ids)), np.float32)
        with tqdm(total=len(prompts), desc=progress, unit="text", disable=progress is None) as bar:
            tokens = [self._read(prompt) for prompt in prompts]
            requests = [ScoreRequest(prompt, len(prompt), 1, ids[None]) for prompt in tokens]
            penalty = self.generation.repetition_penalty
            for index, found in self.engine.score(requests, k=1, repetition_penalty=penalty):
                scores[index] = found.chosen_logprobs[0]
                bar.update()
        return scores

    def complete(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        stop: Sequence[str] = (),
        is_complete: Callable[[str], bool] | None = None,
        progress: str | None = None,
    ) -> list[Completion]:
        """Greedy continuations; see `LanguageModel`."""
        found: dict[int, Completion] = {}

        def ended(tokens: np.ndarray) -> bool:
            text = self._text(tokens)
            return is_complete(text) if is_complete else any(end in text for end in stop)

        requests = [GenerateRequest(self._read(prompt)) for prompt in prompts]
        sampling = SamplingConfig(
            max_new_tokens=max_new_tokens, repetition_penalty=self.generation.repetition_penalty
        )
        stop_ids = self.generation.stop_ids
        with tqdm(total=len(prompts), desc=progress, unit="text", disable=progress is None) as bar:
            for index, generation in self.engine.generate(
                requests, sampling, stop_ids=stop_ids, is_complete=ended
            ):
                text = self._text(generation.tokens)
                if is_complete is None:
                    text = before(text, stop)
                found[index] = Completion(text, generation.stopped)
                bar.update()
        return [found[index] for index in range(len(prompts))]

    def _tokens(self, prompt: str) -> np.ndarray:
        if not self.settings.chat_template:
            return encode_prompt(self.tokenizer, prompt)
        return encode_chat(self.tokenizer, prompt)

    def _read(self, prompt: str) -> np.ndarray:
        tokens, limit = self._tokens(prompt), self.settings.left_truncate_to
        return tokens if limit is None else tokens[-limit:]

    def _text(self, tokens: np.ndarray) -> str:
        return str(
            self.tokenizer.decode(
                tokens,
                skip_special_tokens=True,
                clean_up_tokenization_spaces=self.generation.clean_up_spaces,
            )
        )
