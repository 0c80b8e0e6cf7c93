"""Prompts to teacher cache: the teacher answers, and what it thought at each token is kept.

Answers come from three places. Free text is generated, and the distribution that each token was
drawn from is kept on the way. Answers fixed by a label or by computation are scored in one
forward pass. Bare label prompts, which annotation has asked already, take their label
distribution from there.
"""

import dataclasses
import hashlib
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import (
    CacheManifest,
    CacheRecord,
    CacheWriter,
    LabelTargets,
    SparseTargets,
    record_key,
)
from sentidistill_jax.inference.distribution import SparseDistribution, kept_entries
from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.label_scoring import encode, encode_prompt
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.teacher.annotate import Annotation
from sentidistill_jax.teacher.answers import FixedAnswer, fixed_answer, is_annotated, is_free

# Prompts that agree in this many characters surely share their instruction and first demonstration.
_SHARED_CHARACTERS = 160
_MIN_SHARED = 16  # fewer prompts than this are scored together with others, nothing shared
# Left outside the labels of an annotated answer: a student's mass there costs, but not infinitely.
_ANNOTATED_TAIL_MASS = 1e-4


class Capture:
    """Asks one teacher and writes one cache.

    Args:
      engine: Runs the teacher.
      tokenizer: Its tokenizer, which is also the student's.
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
        annotations: Mapping[tuple[str, str], Annotation],
        seed: int,
    ):
        self._engine = engine
        self._tokenizer = tokenizer
        self._fingerprint = teacher_fingerprint
        self._sampling = sampling
        self._annotations = annotations
        self._seed = seed
        self._newline = encode(tokenizer, "\n")

    def run(
        self, prompts: Sequence[Prompt], directory: pathlib.Path, manifest: CacheManifest
    ) -> None:
        """Writes the shards that are missing; interrupted, it goes on with the first such shard."""
        writer = CacheWriter(directory, manifest)
        missing = writer.missing_shards()
        total = sum(stop - start for start, stop in map(writer.shard_range, missing))
        bar = tqdm(total=total, desc="teach", unit="prompt", mininterval=1.0)
        for shard in missing:
            start, stop = writer.shard_range(shard)
            records: dict[int, CacheRecord] = {}
            for index, record in self.records(prompts[start:stop], manifest):
                records[index] = record
                bar.update()
            writer.write_shard(shard, [records[index] for index in range(stop - start)])
        bar.close()
        writer.finish()

    def records(
        self, prompts: Sequence[Prompt], manifest: CacheManifest
    ) -> Iterator[tuple[int, CacheRecord]]:
        """Yields (index of the prompt, its record) in no given order."""
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

    def _from_annotation(self, prompt: Prompt, manifest: CacheManifest) -> CacheRecord:
        """A record without a forward pass: the labels as annotated, near certainty elsewhere."""
        answer = self._answer(prompt)
        count, labels = len(answer.tokens), len(answer.label_ids)
        ids = np.full((count, labels), -1, np.int32)
        logprobs = np.full((count, labels), -np.inf, np.float32)
        ids[:, 0], logprobs[:, 0] = answer.tokens, 0.0
        ids[answer.position], logprobs[answer.position] = answer.label_ids, answer.label_logprobs
        logprobs += np.log1p(-_ANNOTATED_TAIL_MASS)
        tail = np.full((count, len(manifest.temperatures)), np.log(_ANNOTATED_TAIL_MASS))
        none = np.zeros((count, 0))
        distribution = SparseDistribution(
            top_k_ids=none,  # type: ignore[arg-type]
            top_k_logprobs=none,  # type: ignore[arg-type]
            chosen_ids=ids,  # type: ignore[arg-type]
            chosen_logprobs=logprobs,  # type: ignore[arg-type]
            tail_logprobs=tail.astype(np.float32),  # type: ignore[arg-type]
        )
        targets = LabelTargets(
            answer.position, answer.label_ids, logprobs[answer.position], answer.label_logprobs
        )
        prompt_tokens = encode_prompt(self._tokenizer, prompt.teacher_prompt)
        return self._record(prompt, prompt_tokens, answer.tokens, distribution, targets)

    def _generated(
        self, prompts: Sequence[Prompt], indices: list[int], manifest: CacheManifest
    ) -> Iterator[tuple[int, CacheRecord]]:
        requests = [
            GenerateRequest(
                encode_prompt(self._tokenizer, prompts[i].teacher_prompt),
                self._row_seed(prompts[i]),
            )
            for i in indices
        ]
        answers = self._engine.generate(
            requests,
            self._sampling,
            stop_ids=[int(self._newline[0])],
            k=manifest.top_k,
            temperatures=manifest.temperatures,
        )
        for row, generation in answers:
            assert generation.distribution is not None
            index = indices[row]
            yield (
                index,
                self._record(
                    prompts[index],
                    requests[row].tokens,
                    generation.tokens,
                    generation.distribution,
                    None,
                ),
            )

    def _scored(
        self, prompts: Sequence[Prompt], indices: list[int], manifest: CacheManifest
    ) -> Iterator[tuple[int, CacheRecord]]:
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
            requests.append(ScoreRequest(tokens, len(prompt), count, chosen))
        scored = self._engine.score(requests, k=manifest.top_k, temperatures=manifest.temperatures)
        for row, distribution in scored:
            index, answer = indices[row], answers[row]
            labels = None
            if len(answer.label_ids):
                raw = distribution.chosen_logprobs[answer.position, 1 : 1 + len(answer.label_ids)]
                labels = LabelTargets(
                    answer.position, answer.label_ids, np.asarray(raw), answer.label_logprobs
                )
            yield (
                index,
                self._record(
                    prompts[index],
                    requests[row].tokens[: requests[row].start],
                    answer.tokens,
                    distribution,
                    labels,
                ),
            )

    def _answer(self, prompt: Prompt) -> FixedAnswer:
        return fixed_answer(self._tokenizer, prompt, self._annotations)

    def _record(
        self,
        prompt: Prompt,
        teacher_prompt: np.ndarray,
        completion: np.ndarray,
        distribution: SparseDistribution,
        labels: LabelTargets | None,
    ) -> CacheRecord:
        student_prompt = encode_prompt(self._tokenizer, prompt.prompt)
        tokens = np.concatenate([student_prompt, completion]).astype(np.int32)
        rows = [
            kept_entries(
                dataclasses.replace(
                    distribution,
                    top_k_ids=distribution.top_k_ids[row],
                    top_k_logprobs=distribution.top_k_logprobs[row],
                    chosen_ids=distribution.chosen_ids[row],
                    chosen_logprobs=distribution.chosen_logprobs[row],
                )
            )
            for row in range(len(completion))
        ]
        teacher_tokens = np.concatenate([teacher_prompt, completion])
        return CacheRecord(
            key=record_key(self._fingerprint, teacher_tokens, tokens),
            prompt_id=prompt.id,
            kind=prompt.kind,
            tokens=tokens,
            completion_start=len(student_prompt),
            targets=SparseTargets(
                counts=np.array([len(ids) for ids, _ in rows], np.int32),
                ids=np.concatenate([ids for ids, _ in rows]),
                logprobs=np.concatenate([logprobs for _, logprobs in rows]),
                tail_logprobs=np.asarray(distribution.tail_logprobs),
            ),
            labels=labels,
        )

    def _row_seed(self, prompt: Prompt) -> int:
        """A seed of the prompt's own, so that its answer does not depend on its neighbours."""
        digest = hashlib.blake2b(f"{self._seed}/{prompt.id}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little") & 0x7FFFFFFF
