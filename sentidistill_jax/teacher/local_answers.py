"""A loaded teacher's answers, with what it thought at each token.

Answers come from three places. Free text is generated, and the distribution that each token was
drawn from is kept on the way. Answers fixed by a label or by computation are scored in one
forward pass. Bare label prompts, which annotation has asked already, take their label
distribution from there.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import (
    CacheManifest,
    CacheRecord,
    LabelTargets,
    SparseTargets,
    draw,
    sampled_targets,
    select_top_k,
    select_top_p,
)
from sentidistill_jax.inference.distribution import SparseDistribution
from sentidistill_jax.inference.engine import GenerateRequest, Generation, ScoreRequest
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.tokens import encode_prompt, line_ends
from sentidistill_jax.teacher.answers import (
    CapturedAnswer,
    CaptureJob,
    fixed_answer,
    is_annotated,
    is_free,
)
from sentidistill_jax.teacher.filters import reject_reason
from sentidistill_jax.teacher.records import make_record, one_hot_targets, text_record


@dataclasses.dataclass(frozen=True)
class _LocalTeacher:
    """A loaded teacher that writes answers in its own words: what both kinds of answers share."""

    model: LocalModel
    job: CaptureJob

    @property
    def num_processes(self) -> int:
        """All of the job."""
        return jax.process_count()

    @property
    def spans_processes(self) -> bool:
        """Whether one model lies over the devices of all processes."""
        return self.model.engine.spans_processes

    @functools.cached_property
    def _line_ends(self) -> list[int]:
        return line_ends(self.model.tokenizer)

    def _written(
        self, prompts: Sequence[Prompt], indices: Sequence[int], **kept: Any
    ) -> Iterator[tuple[int, Generation]]:
        """Answers in the teacher's own words, each up to a token that ends a line."""
        if not indices:
            return
        tokenizer = self.model.tokenizer
        requests = [
            GenerateRequest(
                encode_prompt(tokenizer, prompts[index].teacher_prompt), self._seed(prompts[index])
            )
            for index in indices
        ]
        answers = self.model.engine.generate(
            requests, self.job.sampling, stop_ids=self._line_ends, **kept
        )
        for row, generation in answers:
            yield indices[row], generation

    def _reject(self, prompt: Prompt, text: str) -> str | None:
        about = self.job.texts[prompt.text_id]
        return reject_reason(prompt, about, text, stopped=text.endswith("\n"))

    def _seed(self, prompt: Prompt) -> int:
        """A seed of the prompt's own, so that its answer does not depend on its neighbours."""
        digest = hashlib.blake2b(f"{self.job.seed}/{prompt.id}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little") & 0x7FFFFFFF


@dataclasses.dataclass(frozen=True)
class LocalAnswers(_LocalTeacher):
    """Answers with distributions, for a student of the teacher's own tokens."""

    manifest: CacheManifest  # decides what is kept of a distribution

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, CapturedAnswer]]:
        """Yields (index of the prompt, its answer) in no given order."""
        written, scored = [], []
        for index, prompt in enumerate(prompts):
            if is_annotated(prompt, self.job.annotations):
                yield index, CapturedAnswer(0, functools.partial(self._annotated, prompt))
            else:
                (written if is_free(prompt) else scored).append(index)
        for index, generation in self._written(prompts, written, **self._kept):
            outcome = functools.partial(self._judge, prompts[index], generation)
            yield index, CapturedAnswer(len(generation.tokens), outcome)
        if scored:
            yield from self._scored(prompts, scored)

    def _annotated(self, prompt: Prompt) -> CacheRecord:
        """An answer without a forward pass: the labels as annotated, near certainty elsewhere."""
        answer = fixed_answer(self.model.tokenizer, prompt, self.job.annotations)
        targets, labels = one_hot_targets(
            answer.tokens, answer, num_temperatures=len(self.manifest.temperatures)
        )
        if self.manifest.num_draws is not None:
            rng = np.random.default_rng(self._seed(prompt))
            ids, logprobs = targets.pad(int(targets.counts.max()))
            columns = draw(logprobs, self.manifest.num_draws, rng)
            targets = sampled_targets(np.take_along_axis(ids, columns, axis=1))
        return self._record(prompt, answer.tokens, targets, labels)

    def _judge(self, prompt: Prompt, generation: Generation) -> CacheRecord | str:
        reason = self._reject(prompt, str(self.model.tokenizer.decode(generation.tokens)))
        if reason is not None:
            return reason
        assert generation.distribution is not None
        targets = select(generation.distribution, self.manifest)
        return self._record(prompt, generation.tokens, targets, None)

    def _scored(
        self, prompts: Sequence[Prompt], indices: Sequence[int]
    ) -> Iterator[tuple[int, CapturedAnswer]]:
        """Answers made of label words or computed, in one forward pass over each."""
        tokenizer = self.model.tokenizer
        answers = [fixed_answer(tokenizer, prompts[i], self.job.annotations) for i in indices]
        requests = []
        for i, answer in zip(indices, answers, strict=True):
            prompt = encode_prompt(tokenizer, prompts[i].teacher_prompt)
            count, labels = len(answer.tokens), len(answer.label_ids)
            chosen = np.full((count, 1 + labels), -1, np.int32)
            chosen[:, 0] = answer.tokens
            if labels:
                chosen[answer.position, 1:] = answer.label_ids
            tokens = np.concatenate([prompt, answer.tokens])
            requests.append(
                ScoreRequest(tokens, len(prompt), count, chosen, self._seed(prompts[i]))
            )

        def outcome(row: int, distribution: SparseDistribution) -> CacheRecord:
            answer, labels = answers[row], None
            if len(answer.label_ids):
                raw = distribution.chosen_logprobs[answer.position, 1 : 1 + len(answer.label_ids)]
                labels = LabelTargets(
                    answer.position, answer.label_ids, np.asarray(raw), answer.label_logprobs
                )
            targets = select(distribution, self.manifest)
            return self._record(prompts[indices[row]], answer.tokens, targets, labels)

        for row, distribution in self.model.engine.score(requests, **self._kept):
            answer = functools.partial(outcome, row, distribution)
            yield indices[row], CapturedAnswer(len(answers[row].tokens), answer)

    @property
    def _kept(self) -> dict[str, Any]:
        """What the engine is to return of every distribution."""
        if self.manifest.num_draws is not None:
            return {"k": 1, "num_draws": self.manifest.num_draws}
        return {"k": self.manifest.top_k, "temperatures": self.manifest.temperatures}

    def _record(
        self,
        prompt: Prompt,
        completion: np.ndarray,
        targets: SparseTargets,
        labels: LabelTargets | None,
    ) -> CacheRecord:
        teacher = self.manifest.teacher_fingerprint
        return make_record(self.model.tokenizer, prompt, completion, (targets, labels), teacher)


@dataclasses.dataclass(frozen=True)
class LocalTextAnswers(_LocalTeacher):
    """Answers as text and labels alone, in the tokens of a student with another tokenizer.

    Only what the teacher writes itself is asked; all else is annotated or computed already.
    """

    student_tokenizer: PreTrainedTokenizerBase

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, CapturedAnswer]]:
        """Yields (index of the prompt, its answer) in no given order."""
        written = []
        for index, prompt in enumerate(prompts):
            if is_free(prompt):
                written.append(index)
            else:
                yield index, CapturedAnswer(0, functools.partial(self._record, prompt, None))
        for index, generation in self._written(prompts, written):
            outcome = functools.partial(self._judge, prompts[index], generation)
            yield index, CapturedAnswer(len(generation.tokens), outcome)

    def _judge(self, prompt: Prompt, generation: Generation) -> CacheRecord | str:
        text = str(self.model.tokenizer.decode(generation.tokens))
        return self._reject(prompt, text) or self._record(prompt, text.split("\n")[0])

    def _record(self, prompt: Prompt, written: str | None) -> CacheRecord:
        teacher = self.model.loaded.fingerprint
        return text_record(self.student_tokenizer, prompt, written, self.job.annotations, teacher)


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
