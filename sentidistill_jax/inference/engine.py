"""Batched inference on token ids: score given continuations, or generate new ones.

Both read a shared prompt beginning once and keep its keys and values for all rows. Shapes come
in a few buckets, so the number of compilations is bounded.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from sentidistill_jax import sharding
from sentidistill_jax.inference import batching, steps
from sentidistill_jax.inference.distribution import Keep, SparseDistribution
from sentidistill_jax.inference.refill import Refill, RefillConfig
from sentidistill_jax.inference.requests import GenerateRequest, Generation, ScoreRequest
from sentidistill_jax.inference.row_plan import Limits
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.kv_cache import KVCache
from sentidistill_jax.models.words import as_words

__all__ = ["Engine", "GenerateRequest", "Generation", "RefillConfig", "ScoreRequest"]

_PREFIX_STEP = 32  # shared prefixes are cut to a multiple of this
# While a CPU compiles it could read a thousand tokens or two. Others could read millions, and their
# kernels want rows of whole blocks.
_SHAPES = {"cpu": {"length_step": 16, "compilation": 1024}}
_OTHER_SHAPES = {"length_step": 128, "compilation": 2**20}


class Engine:
    """Runs one decoder on one mesh.

    Args:
      decoder: The model; its parameters stay where they are.
      mesh: The mesh its parameters live on.
      pad_id: Token id that fills rows up to their bucket; never attended to.
      tokens_per_batch: Bound on rows x padded length of a batch.
    """

    def __init__(self, decoder: Decoder, mesh: Mesh, *, pad_id: int, tokens_per_batch: int = 2048):
        self.config = decoder.config
        self._graphdef, state = nnx.split(decoder)
        # Nothing is trained here, so the parameters are cast once and not in every call.
        self._state = jax.tree.map(lambda leaf: leaf.astype(decoder.dtype), state)
        if jax.default_backend() == "cpu":
            self._state["layers"] = as_words(self._state["layers"])
        self._mesh = mesh
        self._pad_id = pad_id
        shapes = _SHAPES.get(sharding.backend(), _OTHER_SHAPES)
        self._limits = Limits(tokens_per_batch, sharding.batch_rows(mesh), **shapes)

    @property
    def spans_processes(self) -> bool:
        """Whether several processes run one model together; all then make the same calls."""
        return self._mesh.is_multi_process

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        k: int,
        temperatures: tuple[float, ...] = (1.0,),
        num_draws: int = 0,
    ) -> Iterator[tuple[int, SparseDistribution]]:
        """Yields (index of the request, its distributions [count, ...]) in no given order.

        Args:
          requests: What to score; a beginning that all of them share is read once.
          k: Size of the kept top.
          temperatures: At which the tail mass is wanted.
          num_draws: Tokens to draw at every position besides, at temperature 1.

        Raises:
          ValueError: If a request is too long for the model, or a token is not in its vocabulary.
        """
        if not requests:
            return
        inputs = [request.inputs for request in requests]
        self._check(inputs, budget=0)
        prefix = self._prefix(inputs, at_most=min(request.start for request in requests) - 1)
        keep = Keep(k, temperatures, num_draws)
        for packed, batch in batching.score_batches(
            requests, _length(prefix), self._limits, pad_id=self._pad_id
        ):
            scores = self._run(steps.score, self._put(batch), prefix, keep=keep)
            yield from batching.unpack(requests, packed, self._fetch(scores))

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        sampling: SamplingConfig,
        *,
        stop_ids: Sequence[int] = (),
        stop_sequences: Sequence[Sequence[int]] = (),
        k: int = 0,
        temperatures: tuple[float, ...] = (1.0,),
        num_draws: int = 0,
    ) -> Iterator[tuple[int, Generation]]:
        """Yields (index of the request, its continuation) in no given order.

        Args:
          requests: Prompts; a row's output depends on its prompt and seed only.
          sampling: How tokens are drawn and how many at most.
          stop_ids: A row ends after producing one of these.
          stop_sequences: Or after producing one of these runs of tokens.
          k: Also return the distribution each token was drawn from, top-k plus the drawn token
              and the request's chosen ones; 0 for none.
          temperatures: At which the tail mass is wanted.
          num_draws: Tokens to draw at every position besides, at temperature 1; only with k.

        Raises:
          ValueError: If a prompt and its continuation could be too long for the model, or a token
            is not in its vocabulary.
        """
        if not requests:
            return
        budget = sampling.max_new_tokens
        inputs = [request.tokens for request in requests]
        self._check(inputs, budget)
        prefix = self._prefix(inputs, at_most=min(map(len, inputs)) - 1)
        stops = [np.array([stop], np.int32) for stop in stop_ids]
        stops += [np.asarray(stop, np.int32) for stop in stop_sequences if len(stop)]
        keep = Keep(k, temperatures, num_draws) if k else None
        for indices, prompts in batching.prompt_batches(
            requests, _length(prefix), budget, self._limits, pad_id=self._pad_id
        ):
            drawn = self._generate(prompts, prefix, len(indices), stops, sampling, keep)
            for row, index in enumerate(indices):
                yield index, _generation(drawn, row, stops)

    def complete(
        self,
        prompts: Sequence[np.ndarray],
        config: RefillConfig,
        ended: Callable[[np.ndarray], bool],
    ) -> Iterator[tuple[int, Generation]]:
        """Yields (index of the prompt, its greedy continuation) in no given order.

        Rows that end are refilled. A continuation does not depend on the rows beside it.

        Args:
          prompts: Token ids, at least one each; a beginning that all share is read once.
          config: How many rows at once, and how they end.
          ended: Whether a continuation is complete; it is cut at the first token that makes it so.

        Raises:
          ValueError: If a prompt and its continuation could be too long for the model, or a token
            is not in its vocabulary.
        """
        if prompts:
            yield from self._refill(prompts, config).complete(ended)

    def next_logprobs(
        self, prompts: Sequence[np.ndarray], ids: np.ndarray, config: RefillConfig
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index of the prompt, logprobs of some tokens as the next one).

        As `score` for a single position, but with the repetition penalty of the config.
        """
        if prompts:
            yield from self._refill(prompts, config).next_logprobs(ids)

    def _refill(self, prompts: Sequence[np.ndarray], config: RefillConfig) -> Refill:
        self._check(prompts, config.max_new_tokens)
        ways = self._limits.ways
        return Refill(
            self._run,
            self._prefix(prompts, at_most=min(map(len, prompts)) - 1),
            prompts,
            vocab_size=self.config.vocab_size,
            pad_id=self._pad_id,
            config=dataclasses.replace(
                config,
                rows=-(-config.rows // ways) * ways,
                group=-(-config.group // ways) * ways,
            ),
            put=self._put,
            fetch=jax.device_get,
        )

    def _generate(
        self,
        prompts: batching.PromptBatch,
        prefix: KVCache | None,
        count: int,
        stops: Sequence[np.ndarray],
        sampling: SamplingConfig,
        keep: Keep | None,
    ) -> list[steps.Drawn]:
        """What each step drew, on the host, until the first `count` rows have all ended."""
        budget = sampling.max_new_tokens
        slots = prompts.tokens.shape[1] + budget - 1  # the last token drawn is never read
        prompts = self._put(prompts)
        cache, latest = self._run(
            steps.prefill, prompts, prefix, slots=slots, sampling=sampling, keep=keep
        )
        drawn = [self._fetch(latest)]
        longest = max(map(len, stops), default=0)

        def just_ended() -> np.ndarray:
            recent = [step.tokens[:count] for step in drawn[max(0, len(drawn) - longest) :]]
            return _ends(np.stack(recent, axis=-1), stops) if longest else np.zeros(count, np.bool_)

        ended = just_ended()
        while len(drawn) < budget and not ended.all():
            cache, latest = self._run(
                steps.decode, prompts, prefix, cache, latest.tokens, len(drawn),
                sampling=sampling, keep=keep,
            )  # fmt: skip
            drawn.append(self._fetch(latest))
            ended |= just_ended()
        return drawn

    def _prefix(self, inputs: Sequence[np.ndarray], *, at_most: int) -> KVCache | None:
        """Reads the beginning that all inputs share, or most of it: lengths are few."""
        length = min(batching.common_prefix(inputs), at_most) // _PREFIX_STEP * _PREFIX_STEP
        if not length:
            return None
        return self._run(steps.read_prefix, inputs[0][None, :length].astype(np.int32))

    def _run(self, step: Callable, *arguments: Any, **static: Any) -> Any:
        # The mesh is set around each call and not around the loops, which are generators: there
        # it would stay set for their consumers.
        with jax.set_mesh(self._mesh):
            return step(self._state, *arguments, graphdef=self._graphdef, **static)

    def _put(self, batch: Any) -> Any:
        return jax.device_put(batch, sharding.batch_sharding(self._mesh))

    def _fetch(self, values: Any) -> Any:
        """Results on the host, those of all rows on every process that takes part."""
        if self.spans_processes:
            return multihost_utils.process_allgather(values, tiled=True)
        return jax.device_get(values)

    def _check(self, inputs: Sequence[np.ndarray], budget: int) -> None:
        longest = max(map(len, inputs))
        if longest + budget > self.config.max_position:
            raise ValueError(
                f"a prompt of {longest} tokens and {budget} new ones exceed the model's"
                f" max_position={self.config.max_position}; shorten the prompt or generate less."
            )
        largest = max(int(tokens.max()) for tokens in inputs)
        if largest >= self.config.vocab_size:
            raise ValueError(
                f"token id {largest} is not in the model's vocabulary of {self.config.vocab_size};"
                " use the tokenizer that belongs to the model."
            )


def _length(prefix: KVCache | None) -> int:
    return 0 if prefix is None else prefix.length


def _ends(tokens: np.ndarray, stops: Sequence[np.ndarray]) -> np.ndarray:
    """Of tokens [..., seq]: whether one of the stops ends with the last."""
    ended = np.zeros(tokens.shape[:-1], np.bool_)
    for stop in stops:
        if tokens.shape[-1] >= len(stop):
            ended |= (tokens[..., -len(stop) :] == stop).all(axis=-1)
    return ended


def _generation(drawn: list[steps.Drawn], row: int, stops: Sequence[np.ndarray]) -> Generation:
    """One row of what the steps drew, up to where it stops."""
    tokens = np.array([step.tokens[row] for step in drawn], np.int32)
    hits = [end for end in range(1, len(tokens) + 1) if _ends(tokens[:end], stops)]
    length = hits[0] if hits else len(tokens)
    distribution = jax.tree.map(
        lambda *leaves: np.stack([leaf[row] for leaf in leaves]),
        *(step.distribution for step in drawn[:length]),
    )
    return Generation(tokens[:length], bool(hits), distribution)
