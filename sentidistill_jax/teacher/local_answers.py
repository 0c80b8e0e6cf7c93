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
from sentidistill_jax.inference.generation_settings import text_ends
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.tokens import (
    encode,
    encode_chat,
    encode_prompt,
    line_ends,
    special_ids,
    turn_ends,
)
from sentidistill_jax.teacher.answers import CapturedAnswer, CaptureJob, FixedAnswer, is_free
from sentidistill_jax.teacher.filters import reject_reason
from sentidistill_jax.teacher.records import (
    Targets,
    make_record,
    one_hot_targets,
    text_record,
    with_ending,
)
from sentidistill_jax.teacher.sentiment_check import WRONG_SENTIMENT, SentimentCheck


@dataclasses.dataclass(frozen=True)
class _Written:
    """An answer in the teacher's own words, without the token that ended its turn."""

    tokens: np.ndarray  # int32 [written]
    text: str  # what they say
    stopped: bool  # whether it ended by itself rather than at the length limit
    distribution: SparseDistribution | None  # [written, ...] as each token was drawn
    agrees: bool = True  # whether a rewritten text has the sentiment asked for


@dataclasses.dataclass(frozen=True)
class _LocalTeacher:
    """A loaded teacher that writes answers in its own words: what both kinds of answers share."""

    model: LocalModel
    job: CaptureJob
    sentiment: SentimentCheck | None = dataclasses.field(default=None, kw_only=True)

    @property
    def num_processes(self) -> int:
        """All of the job."""
        return jax.process_count()

    @property
    def spans_processes(self) -> bool:
        """Whether one model lies over the devices of all processes."""
        return self.model.engine.spans_processes

    @functools.cached_property
    def _turn_ends(self) -> set[int]:
        return text_ends(self.model.loaded.generation, self.model.tokenizer) | turn_ends(
            self.model.tokenizer
        )

    @functools.cached_property
    def _line_ends(self) -> set[int]:
        return set(line_ends(self.model.tokenizer))

    @functools.cached_property
    def _special_ids(self) -> list[int]:
        return sorted(special_ids(self.model.tokenizer))

    def _read(self, prompt: Prompt) -> np.ndarray:
        """The tokens that the teacher reads."""
        encode_asked = encode_chat if prompt.chat else encode_prompt
        return encode_asked(self.model.tokenizer, prompt.teacher_prompt)

    def _checked(
        self, prompts: Sequence[Prompt], indices: Sequence[int], **kept: Any
    ) -> Iterator[tuple[int, _Written]]:
        """As `_written`, with the sentiment of rewritten texts looked at once all are there."""
        rewritten: list[tuple[int, _Written]] = []
        for index, written in self._written(prompts, indices, **kept):
            checked = self.sentiment is not None and self.sentiment.applies_to(prompts[index])
            if checked and self._reject(prompts[index], written) is None:
                rewritten.append((index, written))
            else:
                yield index, written
        if self.sentiment is not None:
            rewritten.sort(key=lambda one: one[0])  # batches that do not depend on who ended first
            agree = self.sentiment.agree(
                [prompts[index] for index, _ in rewritten], [one.text for _, one in rewritten]
            )
            for (index, written), agrees in zip(rewritten, agree, strict=True):
                yield index, dataclasses.replace(written, agrees=agrees)

    def _written(
        self, prompts: Sequence[Prompt], indices: Sequence[int], **kept: Any
    ) -> Iterator[tuple[int, _Written]]:
        """Answers in the teacher's own words, to the end of the turn or, if it is one, the line."""
        for multi_line in (False, True):
            asked = [index for index in indices if prompts[index].multi_line == multi_line]
            if not asked:
                continue
            # What is written depends on neither neighbours nor budget, so all get the largest.
            most = max(self.job.budget(prompts[index]) for index in asked)
            stops = self._turn_ends if multi_line else self._turn_ends | self._line_ends
            requests = [
                GenerateRequest(self._read(prompts[index]), self._seed(prompts[index]))
                for index in asked
            ]
            answers = self.model.engine.generate(
                requests,
                dataclasses.replace(self.job.sampling, max_new_tokens=most),
                stop_ids=sorted(stops),
                **kept,
            )
            for row, generation in answers:
                budget = self.job.budget(prompts[asked[row]])
                yield asked[row], self._cut(generation, budget)

    def _cut(self, generation: Generation, budget: int) -> _Written:
        """An answer up to its budget, without the token that ended its turn."""
        stopped = generation.stopped and len(generation.tokens) <= budget
        ended = stopped and int(generation.tokens[-1]) in self._turn_ends
        length = len(generation.tokens) - 1 if ended else min(len(generation.tokens), budget)
        return _Written(
            generation.tokens[:length],
            str(self.model.tokenizer.decode(generation.tokens[:length])),
            stopped,
            jax.tree.map(lambda leaf: leaf[:length], generation.distribution),
        )

    def _reject(self, prompt: Prompt, written: _Written) -> str | None:
        if np.isin(written.tokens, self._special_ids).any():
            return "special_token"
        about = self.job.texts[prompt.text_id]
        reason = reject_reason(prompt, about, written.text, stopped=written.stopped)
        if reason is None and not written.agrees:
            reason = WRONG_SENTIMENT
        return None if reason in self.job.tolerated else reason

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
            if self.job.needs_no_teacher(prompt):
                yield index, CapturedAnswer(0, functools.partial(self._annotated, prompt))
            else:
                (written if is_free(prompt) else scored).append(index)
        for index, answer in self._checked(prompts, written, **self._kept):
            outcome = functools.partial(self._judge, prompts[index], answer)
            yield index, CapturedAnswer(len(answer.tokens), outcome)
        if scored:
            yield from self._scored(prompts, scored)

    def _annotated(self, prompt: Prompt) -> CacheRecord:
        """An answer without a forward pass: the labels as annotated, near certainty elsewhere."""
        answer = self.job.fixed_answer(self.model.tokenizer, prompt)
        targets, labels = self._near_certain(prompt, answer.tokens, answer)
        return self._record(prompt, answer.tokens, targets, labels)

    def _near_certain(
        self, prompt: Prompt, tokens: np.ndarray, answer: FixedAnswer | None
    ) -> Targets:
        """Targets of `one_hot_targets` in the mode of the manifest."""
        targets, labels = one_hot_targets(
            tokens, answer, num_temperatures=len(self.manifest.temperatures)
        )
        if self.manifest.num_draws is not None:
            rng = np.random.default_rng(self._seed(prompt))
            ids, logprobs = targets.pad(int(targets.counts.max()))
            columns = draw(logprobs, self.manifest.num_draws, rng)
            targets = sampled_targets(np.take_along_axis(ids, columns, axis=1))
        return targets, labels

    def _judge(self, prompt: Prompt, written: _Written) -> CacheRecord | str:
        reason = self._reject(prompt, written)
        if reason is not None:
            return reason
        assert written.distribution is not None
        completion, targets = written.tokens, select(written.distribution, self.manifest)
        if written.stopped and not written.text.endswith("\n"):
            # The teacher ended its turn, where the student's answers end with a newline.
            newline = encode(self.model.tokenizer, "\n")
            ending, _ = self._near_certain(prompt, newline, None)
            completion = np.concatenate([completion, newline])
            targets = with_ending(targets, ending)
        return self._record(prompt, completion, targets, None)

    def _scored(
        self, prompts: Sequence[Prompt], indices: Sequence[int]
    ) -> Iterator[tuple[int, CapturedAnswer]]:
        """Answers made of label words or computed, in one forward pass over each."""
        tokenizer = self.model.tokenizer
        answers = [self.job.fixed_answer(tokenizer, prompts[i]) for i in indices]
        requests = []
        for i, answer in zip(indices, answers, strict=True):
            prompt = self._read(prompts[i])
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
        for index, answer in self._checked(prompts, written):
            outcome = functools.partial(self._judge, prompts[index], answer)
            yield index, CapturedAnswer(len(answer.tokens), outcome)

    def _judge(self, prompt: Prompt, written: _Written) -> CacheRecord | str:
        text = written.text.rstrip("\n") if prompt.multi_line else written.text.split("\n")[0]
        return self._reject(prompt, written) or self._record(prompt, text)

    def _record(self, prompt: Prompt, written: str | None) -> CacheRecord:
        teacher = self.model.loaded.fingerprint
        return text_record(self.student_tokenizer, prompt, written, self.job, teacher)


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
