"""Batched inference on token ids: score given continuations, or generate new ones.

Both read a beginning that prompts share once and keep its keys and values for all of them. A few
compiled programs serve prompts of any length.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sentidistill_jax import sharding
from sentidistill_jax.cpu_workarounds import bitcast_to_words
from sentidistill_jax.inference import shapes, steps
from sentidistill_jax.inference.distribution import Keep, SparseDistribution
from sentidistill_jax.inference.reader import Reader
from sentidistill_jax.inference.requests import GenerateRequest, Generation, ScoreRequest
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.inference.scheduler import Scheduler, Stops
from sentidistill_jax.inference.shared_beginnings import PromptGroup, group_prompts
from sentidistill_jax.models.decoder import Decoder

__all__ = ["Engine", "GenerateRequest", "Generation", "ScoreRequest"]

_FEW, _LOOKS = 16, 4  # distributions of a prompt, beyond which a batch's are made in several parts
_IN_PLACE = 64  # scored prompts for which a beginning is read by itself


class Engine:
    """Runs one decoder on one mesh.

    Args:
      decoder: The model; its parameters stay where they are.
      mesh: The mesh its parameters live on.
      pad_id: Token id that fills rows; never attended to.
      tokens_per_batch: Tokens that one call reads; 0: what suits the platform. Scoring holds 16
        times as many in its cache on a CPU, 4 times elsewhere.
      max_num_seqs: Continuations under way at one time; 0: what suits the platform.
    """

    def __init__(
        self,
        decoder: Decoder,
        mesh: Mesh,
        *,
        pad_id: int,
        tokens_per_batch: int = 0,
        max_num_seqs: int = 0,
    ):
        self.config = decoder.config
        self._dtype = decoder.dtype
        self._graphdef, state = nnx.split(decoder)
        # Nothing is trained here, so the parameters are cast once and not in every call.
        self._state = jax.tree.map(lambda leaf: leaf.astype(decoder.dtype), state)
        platform = mesh.devices.flat[0].platform
        if platform == "cpu":
            self._state["layers"] = bitcast_to_words(self._state["layers"])
        self._mesh = mesh
        self._pad_id = pad_id
        self._data_parallel = sharding.data_parallel_degree(mesh)
        defaults = shapes.Defaults.of(platform)
        self._defaults = dataclasses.replace(
            defaults,
            tokens_per_batch=tokens_per_batch or defaults.tokens_per_batch,
            max_num_seqs=max_num_seqs or defaults.max_num_seqs,
        )
        self._narrow = platform == "cpu"  # where rows that idle take time

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
        repetition_penalty: float = 1.0,
    ) -> Iterator[tuple[int, SparseDistribution]]:
        """Yields (index of the request, its distributions [count, ...]) in no given order.

        Args:
          requests: What to score.
          k: Size of the kept top.
          temperatures: At which the tail mass is wanted.
          num_draws: Tokens to draw at every position besides, at temperature 1.
          repetition_penalty: Of tokens of the prompt; other than 1 only with counts of 1.

        Raises:
          ValueError: If a request is too long for the model, a token is not in its vocabulary, or
            several positions are asked for with a penalty.
        """
        if not requests:
            return
        if repetition_penalty != 1 and any(request.count > 1 for request in requests):
            raise ValueError(
                f"repetition_penalty={repetition_penalty} needs requests of count=1; with 1 there"
                " may be more."
            )
        inputs = [request.inputs for request in requests]
        self._check(inputs, budget=0)
        groups = group_prompts(inputs, [request.start - 1 for request in requests])
        keep = Keep(k, temperatures, num_draws)
        for together, shape in self._score_batches(inputs, groups):
            yield from self._score(requests, inputs, together, shape, keep, repetition_penalty)

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        sampling: SamplingConfig,
        *,
        stop_ids: Sequence[int] = (),
        stop_sequences: Sequence[Sequence[int]] = (),
        is_complete: Callable[[np.ndarray], bool] | None = None,
        k: int = 0,
        temperatures: tuple[float, ...] = (1.0,),
        num_draws: int = 0,
    ) -> Iterator[tuple[int, Generation]]:
        """Yields (index of the request, its continuation) in no given order.

        Rows that end make room for prompts that wait. A continuation depends on its prompt and
        seed only.

        Args:
          requests: Prompts.
          sampling: How tokens are drawn and how many at most.
          stop_ids: A row ends after producing one of these.
          stop_sequences: Or after producing one of these runs of tokens.
          is_complete: Or as soon as this holds for its tokens without the stop, looked at every few
            tokens; the continuation is cut at the first token that makes it so.
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
        inputs = [request.tokens for request in requests]
        self._check(inputs, sampling.max_new_tokens)
        groups = group_prompts(inputs, [len(tokens) - 1 for tokens in inputs])
        rows = min(len(requests), self._defaults.max_num_seqs)
        rows = shapes.padded(-(-rows // self._data_parallel), 2) * self._data_parallel
        copied = _longest_copied(groups)
        own = max(len(inputs[index]) - group.length for group in groups for index in group.members)
        shape = shapes.prompt_shape(own, copied, rows, self._defaults, self._data_parallel)
        scheduler = Scheduler(
            self._run,
            self._put,
            self._reader(inputs, groups, shape, shape.rows),
            requests,
            rows=rows,
            length=shapes.slots(own + sampling.max_new_tokens, shape.chunk),
            sampling=sampling,
            stops=Stops.of(stop_ids, stop_sequences),
            is_complete=is_complete,
            keep=Keep(k, temperatures, num_draws) if k else None,
            tokens_at_once=self._defaults.tokens_at_once,
            vocab_size=self.config.vocab_size,
            narrow=self._narrow,
            data_parallel=self._data_parallel,
        )
        yield from scheduler.generate()

    def _score_batches(
        self, inputs: Sequence[np.ndarray], groups: Sequence[PromptGroup]
    ) -> Iterator[tuple[list[PromptGroup], shapes.ReadShape]]:
        """Groups that are scored together, and their shape.

        A large group has its beginning to itself; the small ones have theirs copied to every row.
        """
        in_place = [
            group
            for group in groups
            if group.length and (len(group.members) >= _IN_PLACE or len(groups) == 1)
        ]
        batches = [[group] for group in in_place]
        if small := [group for group in groups if group not in in_place]:
            batches.append(small)
        for batch in batches:
            copied = _longest_copied(batch)
            by_shape: dict[shapes.ReadShape, list[PromptGroup]] = defaultdict(list)
            for group in batch:
                members: dict[shapes.ReadShape, list[int]] = defaultdict(list)
                for index in group.members:
                    own = len(inputs[index]) - group.length
                    shape = shapes.score_shape(own, copied, self._defaults, self._data_parallel)
                    members[shape].append(index)
                for shape, indices in members.items():
                    by_shape[shape].append(PromptGroup(group.length, indices))
            for shape in sorted(by_shape, key=lambda shape: shape.length):
                yield by_shape[shape], shape

    def _score(
        self,
        requests: Sequence[ScoreRequest],
        inputs: Sequence[np.ndarray],
        groups: Sequence[PromptGroup],
        shape: shapes.ReadShape,
        keep: Keep,
        penalty: float,
    ) -> Iterator[tuple[int, SparseDistribution]]:
        most = max(requests[index].count for group in groups for index in group.members)
        short = shapes.score_shape(1, 0, self._defaults, self._data_parallel)
        together = shapes.padded(max(short.rows, most), self._data_parallel)
        # Whole texts want more than their logits have room for at one time.
        picks = together if most <= _FEW else _LOOKS * together
        reader = self._reader(inputs, groups, shape, picks)
        width = shapes.padded(max(request.chosen.shape[1] for request in requests), 4)
        before: tuple[list[int], list[SparseDistribution]] | None = None
        while reader.num_waiting:
            reader.open_groups()
            left, chosen = picks, []
            for one in reader.waiting[: shape.rows]:
                left -= requests[one.index].count
                if left >= 0:
                    chosen.append(one)
            read = reader.read(chosen, lambda index: requests[index].count)
            indices = [one.index for one in chosen]
            asked = self._asked([requests[index] for index in indices], picks, width, penalty != 1)
            wanted = sum(requests[index].count for index in indices)
            found = [
                self._run(
                    steps.distributions, read.picked, first,
                    *(self._part(part, first, together) for part in asked), penalty, keep=keep,
                )
                for first in range(0, wanted, together)
            ]  # fmt: skip
            # The host unpacks a batch while the device reads the next.
            if before is not None:
                yield from _unpack(*before, requests)
            before = indices, found
        if before is not None:
            yield from _unpack(*before, requests)

    def _asked(
        self, requests: Sequence[ScoreRequest], picks: int, width: int, penalized: bool
    ) -> tuple[Any, ...]:
        """The arguments of `steps.distributions` that say what is asked of a batch."""
        chosen = np.full((picks, width), -1, np.int32)
        seeds, offsets = np.zeros((2, picks), np.int32)
        seen = np.zeros((picks, self.config.vocab_size), np.bool_) if penalized else None
        at = 0
        for request in requests:
            here = slice(at, at + request.count)
            chosen[here, : request.chosen.shape[1]] = request.chosen
            seeds[here], offsets[here] = request.seed, np.arange(request.count)
            if seen is not None:
                seen[at, request.inputs] = True
            at = here.stop
        return chosen, seeds, offsets, seen

    def _part(self, asked: np.ndarray | None, first: int, count: int) -> Any:
        """Some rows of what is asked; what tokens are penalized is placed as a batch is."""
        part = None if asked is None else asked[first : first + count]
        return self._put(part) if part is not None and part.dtype == np.bool_ else part

    def _reader(
        self,
        inputs: Sequence[np.ndarray],
        groups: Sequence[PromptGroup],
        shape: shapes.ReadShape,
        picks: int,
    ) -> Reader:
        kept = sharding.replicated(self._mesh)
        nothing = np.zeros((picks, self.config.embed_dim), self._dtype)
        return Reader(
            self._run,
            self._put,
            inputs,
            groups,
            shape=shape,
            picked=lambda: jax.device_put(nothing, kept),
            pad_id=self._pad_id,
        )

    def _run(self, step: Callable, *arguments: Any, **static: Any) -> Any:
        # The mesh is set around each call and not around the loops, which are generators: there
        # it would stay set for their consumers.
        with jax.set_mesh(self._mesh):
            return step(self._state, *arguments, graphdef=self._graphdef, **static)

    def _put(self, batch: Any) -> Any:
        return jax.device_put(batch, sharding.batch_sharding(self._mesh))

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


def _longest_copied(groups: Sequence[PromptGroup]) -> int:
    """Tokens of the longest beginning that is copied to the rows of its prompts."""
    return 0 if len(groups) == 1 else max(group.length for group in groups)


def _unpack(
    indices: Sequence[int], parts: list[SparseDistribution], requests: Sequence[ScoreRequest]
) -> Iterator[tuple[int, SparseDistribution]]:
    """Yields (index of the request, its distributions [count, ...]) of a batch."""
    found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(parts))
    at = 0
    for index in indices:
        count, width = requests[index].chosen.shape
        own = jax.tree.map(lambda leaf, at=at, count=count: leaf[at : at + count], found)
        yield (
            index,
            dataclasses.replace(
                own,
                chosen_ids=own.chosen_ids[:, :width],
                chosen_logprobs=own.chosen_logprobs[:, :width],
            ),
        )
        at += count
