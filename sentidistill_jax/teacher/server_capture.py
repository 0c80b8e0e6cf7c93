"""Prompts to teacher cache where the teacher is behind a server: its text, and what it lists of it.

Where the server's tokens are the student's, its `top_logprobs` become sparse targets. Elsewhere the
cache holds the teacher's text alone (mode `text`), which an objective without divergence learns.
"""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import (
    TEXT_MODE,
    CacheManifest,
    CacheRecord,
    CacheWriter,
    LabelTargets,
    SparseTargets,
)
from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.protocol import Answer, Request
from sentidistill_jax.endpoint.settings import EndpointError
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.teacher.alignment import Aligner
from sentidistill_jax.teacher.answers import (
    Annotations,
    FixedAnswer,
    fixed_answer,
    is_annotated,
    is_free,
)
from sentidistill_jax.teacher.filters import reject_reason
from sentidistill_jax.teacher.text_records import (
    make_record,
    stated_targets,
    text_record,
    written_tokens,
)

# What tokenizers cut differently: digits, accents, contractions, runs of spaces, symbols.
_PROBES = (
    "Review: I've paid 1,299.50 for this, and it's wonderful!\nSentiment:",
    "Die Suppe war köstlich, le café aussi 😊  (truly)\nOpinion:",
)
_PROBE_TOKENS = 8


@dataclasses.dataclass(frozen=True)
class Offer:
    """What a server gives, as seen from answers to some fixed texts."""

    token_targets: bool  # it lists logprobs, and its tokens are the student's
    prompt_logprobs: bool  # it lists them for a prompt's own tokens too
    reason: str  # in words


class ServerCapture:
    """Asks one served teacher and writes one cache.

    Args:
      endpoint: The server; everything it says is in its journal.
      tokenizer: The student's.
      sampling: For answers that the teacher writes itself.
      annotations: Its calibrated opinions, for answers made of label words.
      top_k: Most entries of a position.
      seed: Sent along where the sampling draws.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: PreTrainedTokenizerBase,
        *,
        sampling: SamplingConfig,
        annotations: Annotations,
        top_k: int,
        seed: int,
    ):
        self._endpoint = endpoint
        self._tokenizer = tokenizer
        self._aligner = Aligner(tokenizer)
        self._sampling = sampling
        self._annotations = annotations
        self._top_k = top_k
        self._seed = seed
        self.offer = self._probe()

    @property
    def fingerprint(self) -> str:
        """Stands for the teacher's weights: what the server calls itself, and what it was asked."""
        names = sorted(self._endpoint.journal.models)
        return fingerprint({"endpoint": names, **self._endpoint.settings.identity()})

    def ask(
        self, prompts: Sequence[Prompt], texts: Mapping[str, str]
    ) -> tuple[list[Prompt], dict[str, int]]:
        """Gets all answers, and lists of logprobs where they are of use, into the journal.

        Args:
          prompts: Of a corpus.
          texts: Text id -> text.

        Returns:
          The prompts whose answers are worth learning, and counts of all by reason; see
          `filters.reject_reason`. `not_aligned` is an answer that the server cut into other tokens
          than the student's tokenizer, or gave no list for.

        Raises:
          EndpointError: If the server stops answering; all it said is in the journal.
        """
        free = [self._written(prompt) for prompt in prompts if is_free(prompt)]
        self._endpoint.ask(free, progress="teach: answers")
        reasons: Counter[str] = Counter()
        written = []
        for prompt in prompts:
            reason = self._reject(prompt, texts) if is_free(prompt) else None
            if reason is None:
                written.append(prompt)
            else:
                reasons[reason] += 1
        if not self.offer.token_targets:
            reasons["kept"] = len(written)
            return written, dict(reasons)
        further = [request for prompt in written for request in self._further(prompt) or ()]
        self._endpoint.ask(further, progress="teach: logprobs")
        kept = [prompt for prompt in written if self._targets(prompt) is not None]
        reasons["kept"] = len(kept)
        reasons["not_aligned"] = len(written) - len(kept)
        return kept, dict(+reasons)

    def write(
        self, prompts: Sequence[Prompt], directory: pathlib.Path, manifest: CacheManifest
    ) -> None:
        """Writes the shards that are missing, from the journal alone.

        Args:
          prompts: Those that `ask` returned.
          directory: Of the cache.
          manifest: With `fingerprint`, and mode `text` unless the offer has token targets.
        """
        writer = CacheWriter(directory, manifest)
        for shard in writer.missing_shards():
            of_shard = prompts[slice(*writer.shard_range(shard))]
            writer.write_shard(shard, [self._record(prompt, manifest) for prompt in of_shard])
        writer.finish()

    def _probe(self) -> Offer:
        settings = self._endpoint.settings
        if not settings.top_logprobs:
            return Offer(False, False, "endpoint.top_logprobs is 0")
        if settings.api == "chat":
            return Offer(False, False, "a chat server reads its own prompt and not the student's")
        probes = [Request(text, _PROBE_TOKENS) for text in _PROBES]
        answers = self._endpoint.answers(probes)
        if not all(answer.tokens for answer in answers):
            return Offer(False, False, "the server gives no logprobs")
        # Servers may write a character of several tokens in ways of their own, so most must do.
        known = [self._aligner.id_of(token.name) is not None for a in answers for token in a.tokens]
        agree = all(
            self._aligner.prompt_agrees(text, answer.prompt_tokens)
            for text, answer in zip(_PROBES, answers, strict=True)
        )
        if not agree or 2 * sum(known) < len(known):
            return Offer(False, False, "the server's tokenizer is not the student's")
        probe = dataclasses.replace(probes[0], max_tokens=1, prompt_logprobs=True)
        try:
            (answer,) = self._endpoint.answers([probe])
        except EndpointError as error:
            if error.status not in (400, 422):
                raise
            answer = None  # it refuses the field
        lists = bool(answer and answer.prompt)
        return Offer(
            True, lists, "logprobs, also of prompts" if lists else "logprobs of its own tokens"
        )

    def _written(self, prompt: Prompt) -> Request:
        """Asks for an answer of the teacher's own."""
        return Request(
            prompt.teacher_prompt,
            self._sampling.max_new_tokens,
            self._sampling.temperature,
            self._sampling.top_p,
            stop=("\n",),
            seed=self._seed if self._sampling.temperature else None,
        )

    def _said(self, request: Request) -> Answer:
        (answer,) = self._endpoint.answers([request])
        return answer

    def _text(self, prompt: Prompt) -> str:
        """What the teacher wrote on its line; a chat answer continues a prompt without a space."""
        text = self._said(self._written(prompt)).text.split("\n")[0]
        if self._endpoint.settings.api == "chat" and not prompt.prompt[-1:].isspace():
            text = f" {text.strip()}"
        return text

    def _reject(self, prompt: Prompt, texts: Mapping[str, str]) -> str | None:
        answer = self._said(self._written(prompt))
        stopped = answer.stopped or "\n" in answer.text
        return reject_reason(prompt, texts[prompt.text_id], self._text(prompt), stopped=stopped)

    def _fixed(self, prompt: Prompt) -> FixedAnswer:
        return fixed_answer(self._tokenizer, prompt, self._annotations)

    def _completion(self, prompt: Prompt) -> np.ndarray:
        """The tokens of the answer with its newline, int32."""
        if not is_free(prompt):
            return self._fixed(prompt).tokens.astype(np.int32)
        return written_tokens(self._tokenizer, self._text(prompt))

    def _further(self, prompt: Prompt) -> list[Request] | None:
        """Asks for the lists of positions that the answer itself came without.

        None are needed where the targets are the annotation. Otherwise one request lists them all
        if the server can, or one per position does; [] needs none, and None cannot be asked.
        """
        if not is_free(prompt) and is_annotated(prompt, self._annotations):
            return []
        completion = self._completion(prompt)
        first = 0
        if is_free(prompt):
            answer = self._said(self._written(prompt))
            ids = self._aligner.text_ids(self._text(prompt), answer.tokens)
            if ids is None or not self._aligner.prompt_agrees(
                prompt.teacher_prompt, answer.prompt_tokens
            ):
                return None
            first = len(completion) - 1
            if len(answer.tokens) > first:
                if self._aligner.id_of(answer.tokens[first].name) == completion[first]:
                    return []
        if self.offer.prompt_logprobs:
            text = self._aligner.joins(prompt.teacher_prompt, completion)
            return None if text is None else [Request(text, 1, prompt_logprobs=True)]
        starts = [
            self._aligner.joins(prompt.teacher_prompt, completion[:position])
            for position in range(first, len(completion))
        ]
        return None if None in starts else [Request(start, 1) for start in starts if start]

    def _rows(self, prompt: Prompt, completion: np.ndarray) -> list[Mapping[str, float]] | None:
        """The server's list for every position of a completion, None if one is lacking."""
        further = self._further(prompt)
        if further is None:
            return None
        rows: list[Mapping[str, float]] = []
        if is_free(prompt):
            tokens = self._said(self._written(prompt)).tokens
            rows = [token.candidates for token in tokens[: len(completion) - bool(further)]]
        for request in further:
            answer = self._said(request)
            if not self._aligner.prompt_agrees(request.prompt, answer.prompt_tokens):
                return None
            if request.prompt_logprobs:
                listed = [token.candidates for token in answer.prompt]
                rows += listed[len(listed) - (len(completion) - len(rows)) :]
            else:
                rows += [token.candidates for token in answer.tokens[:1]]
        return rows if len(rows) == len(completion) else None

    def _targets(self, prompt: Prompt) -> tuple[SparseTargets, LabelTargets | None] | None:
        """From the server's lists; None if they do not fit the student's tokens."""
        completion = self._completion(prompt)
        answer = None if is_free(prompt) else self._fixed(prompt)
        if answer is not None and is_annotated(prompt, self._annotations):
            return stated_targets(completion, answer)
        rows = self._rows(prompt, completion)
        if rows is None:
            return None
        labelled = answer is not None and len(answer.label_ids) > 0
        forced = {answer.position: answer.label_ids} if answer is not None and labelled else {}
        targets = self._aligner.targets(rows, self._top_k, forced)
        if targets is None:
            return None
        if answer is None or not labelled:
            return targets, None
        ids, logprobs = targets.pad(int(targets.counts.max()))
        at = ids[answer.position].tolist()
        raw = [logprobs[answer.position, at.index(label)] for label in answer.label_ids]
        return targets, LabelTargets(
            answer.position, answer.label_ids, np.array(raw, np.float32), answer.label_logprobs
        )

    def _record(self, prompt: Prompt, manifest: CacheManifest) -> CacheRecord:
        teacher = manifest.teacher_fingerprint
        if manifest.mode == TEXT_MODE:
            written = self._text(prompt) if is_free(prompt) else None
            return text_record(self._tokenizer, prompt, written, self._annotations, teacher)
        found = self._targets(prompt)
        assert found is not None, "kept prompts have targets"
        return make_record(self._tokenizer, prompt, self._completion(prompt), found, teacher)
