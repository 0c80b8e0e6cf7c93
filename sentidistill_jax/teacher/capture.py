"""Prompts to teacher cache: the teacher answers, and what it thought at each token is kept.

Answers come from three places. Free text is generated, and the distribution that each token was
drawn from is kept on the way. Answers fixed by a label or by computation are scored in one
forward pass. Bare label prompts, which annotation has asked already, take their label
distribution from there.
"""

import dataclasses
import hashlib
import pathlib
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sentidistill_jax import distributed
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import (
    CacheManifest,
    CacheRecord,
    CacheWriter,
    LabelTargets,
    ShardBuilder,
    SparseTargets,
    draw,
    record_key,
    sampled_targets,
    select_top_k,
    select_top_p,
)
from sentidistill_jax.inference.distribution import SparseDistribution
from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.label_scoring import encode, encode_prompt
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.teacher.answers import (
    Annotations,
    FixedAnswer,
    fixed_answer,
    is_annotated,
    is_free,
)

# Prompts that agree in this many characters surely share their instruction and first demonstration.
_SHARED_CHARACTERS = 160
_MIN_SHARED = 16  # fewer prompts than this are scored together with others, nothing shared
# Left outside the labels of an annotated answer: a student's mass there costs, but not infinitely.
_ANNOTATED_TAIL_MASS = 1e-4
_ENCODED_BEHIND = 64  # answers that may wait for the thread that encodes them


@dataclasses.dataclass(frozen=True)
class Answered:
    """What the teacher said to a prompt, as it came from the device."""

    prompt: Prompt
    teacher_prompt: np.ndarray  # int32 [seq], what the teacher read
    completion: np.ndarray  # int32 [completion]
    distribution: SparseDistribution  # [completion, ...]
    labels: LabelTargets | None


class Capture:
    """Asks one teacher and writes one cache.

    Args:
      engine: Runs the teacher.
      tokenizer: Its tokenizer, in whose tokens the records are.
      teacher_fingerprint: Hash of its weights.
      sampling: For answers that the teacher writes itself.
      annotations: (task, text id) -> its calibrated opinion, for answers made of label words.
      seed: Of the sampling.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        *,
        teacher_fingerprint: str,
        sampling: SamplingConfig,
        annotations: Annotations,
        seed: int,
    ):
        self._engine = engine
        self._tokenizer = tokenizer
        self._fingerprint = teacher_fingerprint
        self._sampling = sampling
        self._annotations = annotations
        self._seed = seed
        self._line_ends = line_ends(tokenizer)

    def run(
        self, prompts: Sequence[Prompt], directory: pathlib.Path, manifest: CacheManifest
    ) -> None:
        """Writes the shards that are missing, and the manifest; started again, it goes on there.

        All processes of a run call this with the same arguments. Process i of n writes the shards
        whose number is i modulo n. If each holds a teacher of its own, it asks the prompts of
        these alone; if one teacher spans them, all run the same program over all prompts.

        A thread encodes what the teacher has said while it answers the next prompts. A shard is on
        the disk before the next is begun, so a process that is killed redoes no more than one.
        """
        writer = CacheWriter(directory, manifest)
        missing = writer.missing_shards()
        distributed.wait_for_all("missing shards are known")  # before one of them is written
        mine = [s for s in missing if s % jax.process_count() == jax.process_index()]
        asked = missing if self._engine.spans_processes else mine
        total = sum(stop - start for start, stop in map(writer.shard_range, asked))
        with (
            ThreadPoolExecutor(max_workers=1) as encoder,
            _Progress(total, hidden=not distributed.is_leader()) as progress,
        ):
            for shard in asked:
                start, stop = writer.shard_range(shard)
                builder = writer.begin_shard(shard)
                waiting: deque[Future[None]] = deque()
                for index, answered in self.answers(prompts[start:stop], manifest):
                    progress.add(answered)
                    if shard in mine:
                        waiting.append(encoder.submit(self._encode, builder, index, answered))
                    if len(waiting) > _ENCODED_BEHIND:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
                if shard in mine:
                    builder.finish()
        distributed.wait_for_all("shards are written")
        if distributed.is_leader():
            writer.finish()
        distributed.wait_for_all("cache is finished")

    def records(
        self, prompts: Sequence[Prompt], manifest: CacheManifest
    ) -> Iterator[tuple[int, CacheRecord]]:
        """Yields (index of the prompt, its record) in no given order."""
        for index, answered in self.answers(prompts, manifest):
            yield index, self.record(answered, manifest)

    def answers(
        self, prompts: Sequence[Prompt], manifest: CacheManifest
    ) -> Iterator[tuple[int, Answered]]:
        """Yields (index of the prompt, what the teacher said) in no given order."""
        groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            if is_annotated(prompt, self._annotations):
                yield index, self._from_annotation(prompt, manifest)
            else:
                # Prompts that begin alike are asked together, so that the beginning is read once.
                shared = prompt.teacher_prompt[:_SHARED_CHARACTERS]
                groups[(prompt.kind, prompt.format, shared)].append(index)
        alone: list[int] = []
        for indices in groups.values():
            first = prompts[indices[0]]
            if is_free(first):
                yield from self._generated(prompts, indices, manifest)
            elif len(indices) < _MIN_SHARED:
                alone += indices
            else:
                yield from self._scored(prompts, indices, manifest)
        if alone:
            yield from self._scored(prompts, alone, manifest)

    def record(self, answered: Answered, manifest: CacheManifest) -> CacheRecord:
        """What the cache keeps of an answer."""
        student_prompt = encode_prompt(self._tokenizer, answered.prompt.prompt)
        tokens = np.concatenate([student_prompt, answered.completion]).astype(np.int32)
        teacher_tokens = np.concatenate([answered.teacher_prompt, answered.completion])
        return CacheRecord(
            key=record_key(self._fingerprint, teacher_tokens, tokens),
            prompt_id=answered.prompt.id,
            kind=answered.prompt.kind,
            tokens=tokens,
            completion_start=len(student_prompt),
            targets=select(answered.distribution, manifest),
            labels=answered.labels,
        )

    def _from_annotation(self, prompt: Prompt, manifest: CacheManifest) -> Answered:
        """An answer without a forward pass: the labels as annotated, near certainty elsewhere."""
        answer = self._answer(prompt)
        count, labels = len(answer.tokens), len(answer.label_ids)
        ids = np.full((count, labels), -1, np.int32)
        logprobs = np.full((count, labels), -np.inf, np.float32)
        ids[:, 0], logprobs[:, 0] = answer.tokens, 0.0
        ids[answer.position], logprobs[answer.position] = answer.label_ids, answer.label_logprobs
        draws = None
        if manifest.num_draws is not None:
            rng = np.random.default_rng(self._row_seed(prompt))
            draws = np.take_along_axis(ids, draw(logprobs, manifest.num_draws, rng), axis=1)
        logprobs += np.log1p(-_ANNOTATED_TAIL_MASS)
        tail = np.full((count, len(manifest.temperatures)), np.log(_ANNOTATED_TAIL_MASS))
        distribution = SparseDistribution(
            top_k_ids=np.zeros((count, 0), np.int32),
            top_k_logprobs=np.zeros((count, 0), np.float32),
            chosen_ids=ids,
            chosen_logprobs=logprobs,
            tail_logprobs=tail.astype(np.float32),
            draws=draws,
        )
        targets = LabelTargets(
            answer.position, answer.label_ids, logprobs[answer.position], answer.label_logprobs
        )
        teacher_prompt = encode_prompt(self._tokenizer, prompt.teacher_prompt)
        return Answered(prompt, teacher_prompt, answer.tokens, distribution, targets)

    def _generated(
        self, prompts: Sequence[Prompt], indices: list[int], manifest: CacheManifest
    ) -> Iterator[tuple[int, Answered]]:
        requests = [
            GenerateRequest(
                encode_prompt(self._tokenizer, prompts[i].teacher_prompt),
                self._row_seed(prompts[i]),
            )
            for i in indices
        ]
        answers = self._engine.generate(
            requests, self._sampling, stop_ids=self._line_ends, **_kept_of(manifest)
        )
        for row, generation in answers:
            assert generation.distribution is not None
            index = indices[row]
            yield (
                index,
                Answered(
                    prompts[index],
                    requests[row].tokens,
                    generation.tokens,
                    generation.distribution,
                    None,
                ),
            )

    def _scored(
        self, prompts: Sequence[Prompt], indices: list[int], manifest: CacheManifest
    ) -> Iterator[tuple[int, Answered]]:
        answers = [self._answer(prompts[i]) for i in indices]
        requests = []
        for i, answer in zip(indices, answers, strict=True):
            prompt = encode_prompt(self._tokenizer, prompts[i].teacher_prompt)
            count, labels = len(answer.tokens), len(answer.label_ids)
            chosen = np.full((count, 1 + labels), -1, np.int32)
            chosen[:, 0] = answer.tokens
            if labels:
                chosen[answer.position, 1:] = answer.label_ids
            tokens = np.concatenate([prompt, answer.tokens])
            seed = self._row_seed(prompts[i])
            requests.append(ScoreRequest(tokens, len(prompt), count, chosen, seed))
        for row, distribution in self._engine.score(requests, **_kept_of(manifest)):
            index, answer = indices[row], answers[row]
            labels = None
            if len(answer.label_ids):
                raw = distribution.chosen_logprobs[answer.position, 1 : 1 + len(answer.label_ids)]
                labels = LabelTargets(
                    answer.position, answer.label_ids, np.asarray(raw), answer.label_logprobs
                )
            teacher_prompt = requests[row].tokens[: requests[row].start]
            yield (
                index,
                Answered(prompts[index], teacher_prompt, answer.tokens, distribution, labels),
            )

    def _answer(self, prompt: Prompt) -> FixedAnswer:
        return fixed_answer(self._tokenizer, prompt, self._annotations)

    def _encode(self, builder: ShardBuilder, index: int, answered: Answered) -> None:
        builder.add(index, self.record(answered, builder.manifest))

    def _row_seed(self, prompt: Prompt) -> int:
        """A seed of the prompt's own, so that its answer does not depend on its neighbours."""
        digest = hashlib.blake2b(f"{self._seed}/{prompt.id}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little") & 0x7FFFFFFF


def line_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a line, ascending: a newline, and what has one at its end, such as two."""
    ends = {int(encode(tokenizer, "\n")[-1])}
    for piece, token in tokenizer.get_vocab().items():
        # Byte-level vocabularies write a newline as this letter, which others hold as itself.
        if piece.endswith(("\n", "Ċ")) and str(tokenizer.decode([token])).endswith("\n"):
            ends.add(token)
    return sorted(ends)


def select(distribution: SparseDistribution, manifest: CacheManifest) -> SparseTargets:
    """What a cache keeps of distributions [completion, ...] in the mode of its manifest."""
    if manifest.mode == "sampled":
        assert distribution.draws is not None
        return sampled_targets(np.asarray(distribution.draws))
    candidates = [
        np.asarray(part)
        for part in (
            distribution.top_k_ids,
            distribution.top_k_logprobs,
            distribution.tail_logprobs,
        )
    ]
    options = {
        "temperatures": manifest.temperatures,
        "forced_ids": np.asarray(distribution.chosen_ids),
        "forced_logprobs": np.asarray(distribution.chosen_logprobs),
    }
    if manifest.top_p is not None:
        return select_top_p(*candidates, top_p=manifest.top_p, **options)
    return select_top_k(*candidates, k=manifest.top_k, **options)


def _kept_of(manifest: CacheManifest) -> dict[str, Any]:
    """What the engine is to return of every distribution."""
    if manifest.num_draws is not None:
        return {"k": 1, "num_draws": manifest.num_draws}
    return {"k": manifest.top_k, "temperatures": manifest.temperatures}


class _Progress:
    """A bar of prompts with the time left, and completion tokens per second beside it."""

    def __init__(self, total: int, *, hidden: bool):
        self._bar = tqdm(total=total, desc="teach", unit="prompt", mininterval=1.0, disable=hidden)
        self._tokens, self._since = 0, time.perf_counter()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def add(self, answered: Answered) -> None:
        self._tokens += len(answered.completion)
        rate = self._tokens / (time.perf_counter() - self._since)
        self._bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
        self._bar.update()
