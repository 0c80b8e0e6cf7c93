"""A served teacher's answers: its text, and what the server lists of its distributions.

Where the server's tokens are the student's, its `top_logprobs` become sparse targets. Elsewhere the
cache holds the teacher's text alone (mode `text`), which an objective without divergence learns.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import CacheRecord, LabelTargets, SparseTargets
from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.protocol import Answer, Request
from sentidistill_jax.endpoint.settings import EndpointError
from sentidistill_jax.teacher.alignment import Aligner
from sentidistill_jax.teacher.answers import CapturedAnswer, CaptureJob, is_free
from sentidistill_jax.teacher.filters import reject_reason, without_end_marks
from sentidistill_jax.teacher.records import (
    Targets,
    make_record,
    one_hot_targets,
    text_record,
    with_ending,
    written_tokens,
)
from sentidistill_jax.teacher.sentiment_check import WRONG_SENTIMENT, SentimentCheck

# What tokenizers cut differently: digits, accents, contractions, runs of spaces, symbols.
_PROBES = (
    "Review: I've paid 1,299.50 for this, and it's wonderful!\nSentiment:",
    "Die Suppe war köstlich, le café aussi 😊  (truly)\nOpinion:",
)
_PROBE_TOKENS = 8


@dataclasses.dataclass(frozen=True)
class ServerCapabilities:
    """What a server gives, as seen from answers to some fixed texts."""

    token_targets: bool  # it lists logprobs, and its tokens are the student's
    prompt_logprobs: bool  # it lists them for a prompt's own tokens too
    reason: str  # in words


class ServedAnswers:
    """Answers of one served teacher; implements `capture.TeacherAnswers`.

    One process asks: first all it needs to know into the journal (`ask`), of which the capture then
    makes records.

    Args:
      endpoint: The server; everything it says is in its journal.
      tokenizer: The student's.
      job: What is asked; its seed is sent along where the sampling draws.
      top_k: Most entries of a position.
      sentiment: What rewritten texts are checked with; it asks the same server.
    """

    num_processes = 1
    spans_processes = False

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: PreTrainedTokenizerBase,
        job: CaptureJob,
        *,
        top_k: int,
        sentiment: SentimentCheck | None = None,
    ):
        self._endpoint = endpoint
        self._tokenizer = tokenizer
        self._aligner = Aligner(tokenizer)
        self._job = job
        self._top_k = top_k
        self._sentiment = sentiment
        self._agrees: dict[str, bool] = {}  # id of a prompt -> the outcome of that check
        self.capabilities = self._probe()

    @property
    def fingerprint(self) -> str:
        """Stands for the teacher's weights: what the server calls itself, and what it was asked."""
        names = sorted(self._endpoint.journal.models)
        return fingerprint({"endpoint": names, **self._endpoint.settings.identity()})

    def ask(self, prompts: Sequence[Prompt]) -> None:
        """Gets all answers into the journal, and lists of logprobs of those that are kept.

        Raises:
          EndpointError: If the server stops answering; all it said is in the journal.
          ValueError: If a chat is to be had with a server that is asked for completions.
        """
        if self._endpoint.settings.api != "chat" and any(prompt.chat for prompt in prompts):
            raise ValueError(
                "prompts of knowdist.style='chat' are messages, and a server of"
                f" endpoint.api={self._endpoint.settings.api!r} applies no chat template; set"
                " endpoint.api='chat', or knowdist.style='few_shot'."
            )
        free = [self._request(prompt) for prompt in prompts if is_free(prompt)]
        self._endpoint.ask(free, progress="teach: answers")
        self._check_sentiment(prompts, progress="teach: sentiment of rewritten texts")
        if self.capabilities.token_targets:
            kept = [prompt for prompt in prompts if self._reject(prompt) is None]
            further = [request for prompt in kept for request in self._further(prompt) or ()]
            self._endpoint.ask(further, progress="teach: logprobs")

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, CapturedAnswer]]:
        """Yields (index of the prompt, its answer), from the journal."""
        for index, prompt in enumerate(prompts):
            yield index, CapturedAnswer(0, functools.partial(self._judge, prompt))

    def _judge(self, prompt: Prompt) -> CacheRecord | str:
        """The record of an answer, or why there is none; see `reject_reason`.

        `not_aligned` is an answer that the server cut into other tokens than the student's
        tokenizer, or gave no list for.
        """
        reason = self._reject(prompt)
        if reason is not None:
            return reason
        teacher = self.fingerprint
        if not self.capabilities.token_targets:
            written = self._text(prompt) if is_free(prompt) else None
            return text_record(self._tokenizer, prompt, written, self._job, teacher)
        targets = self._targets(prompt)
        if targets is None:
            return "not_aligned"
        return make_record(self._tokenizer, prompt, self._completion(prompt), targets, teacher)

    def _probe(self) -> ServerCapabilities:
        settings = self._endpoint.settings
        if not settings.top_logprobs:
            return ServerCapabilities(False, False, "endpoint.top_logprobs is 0")
        if settings.api == "chat":
            return ServerCapabilities(
                False, False, "a chat server reads its own prompt and not the student's"
            )
        probes = [Request(text, _PROBE_TOKENS) for text in _PROBES]
        answers = self._endpoint.answers(probes)
        if not all(answer.tokens for answer in answers):
            return ServerCapabilities(False, False, "the server gives no logprobs")
        # Servers may write a character of several tokens in ways of their own, so most must do.
        known = [self._aligner.id_of(token.name) is not None for a in answers for token in a.tokens]
        agree = all(
            self._aligner.prompt_agrees(text, answer.prompt_tokens)
            for text, answer in zip(_PROBES, answers, strict=True)
        )
        if not agree or 2 * sum(known) < len(known):
            return ServerCapabilities(False, False, "the server's tokenizer is not the student's")
        probe = dataclasses.replace(probes[0], max_tokens=1, prompt_logprobs=True)
        try:
            (answer,) = self._endpoint.answers([probe])
        except EndpointError as error:
            if error.status not in (400, 422):
                raise
            answer = None  # it refuses the field
        lists = bool(answer and answer.prompt)
        return ServerCapabilities(
            True, lists, "logprobs, also of prompts" if lists else "logprobs of its own tokens"
        )

    def _request(self, prompt: Prompt) -> Request:
        """Asks for an answer of the teacher's own."""
        return Request(
            prompt.teacher_prompt,
            self._job.budget(prompt),
            self._job.sampling.temperature,
            self._job.sampling.top_p,
            stop=() if prompt.multi_line else ("\n",),
            seed=self._job.seed if self._job.sampling.temperature else None,
        )

    def _cached_answer(self, request: Request) -> Answer:
        """What the journal holds; the server is asked where it holds nothing."""
        (answer,) = self._endpoint.answers([request])
        return answer

    def _text(self, prompt: Prompt) -> str:
        """What the teacher wrote, on its line if it is to be one; without marks of its end.

        A chat answer continues a prompt without a space.
        """
        text = self._cached_answer(self._request(prompt)).text
        text = without_end_marks(text if prompt.multi_line else text.split("\n")[0]).rstrip("\n")
        if self._endpoint.settings.api == "chat" and not prompt.prompt[-1:].isspace():
            text = f" {text.strip()}"
        return text

    def _reject(self, prompt: Prompt) -> str | None:
        """Why an answer of the teacher's own is not kept; None for those kept, and fixed ones."""
        if not is_free(prompt):
            return None
        answer = self._cached_answer(self._request(prompt))
        stopped = answer.stopped or (not prompt.multi_line and "\n" in answer.text)
        about = self._job.texts[prompt.text_id]
        reason = reject_reason(prompt, about, self._text(prompt), stopped=stopped)
        if reason is None and not self._agrees.get(prompt.id, True):
            reason = WRONG_SENTIMENT
        return None if reason in self._job.tolerated else reason

    def _check_sentiment(self, prompts: Sequence[Prompt], *, progress: str) -> None:
        """Finds out which rewritten texts have the sentiment asked for."""
        check = self._sentiment
        if check is None:
            return
        rewritten = [p for p in prompts if check.applies_to(p) and self._reject(p) is None]
        agree = check.agree(rewritten, [self._text(p) for p in rewritten], progress=progress)
        self._agrees |= {p.id: one for p, one in zip(rewritten, agree, strict=True)}

    def _completion(self, prompt: Prompt) -> np.ndarray:
        """The tokens of the answer with its newline, int32."""
        if not is_free(prompt):
            return self._job.fixed_answer(self._tokenizer, prompt).tokens.astype(np.int32)
        return written_tokens(self._tokenizer, self._text(prompt))

    def _further(self, prompt: Prompt) -> list[Request] | None:
        """Asks for the lists of positions that the answer itself came without.

        None are needed where the targets are the annotation. Otherwise one request lists them all
        if the server can, or one per position does; [] needs none, and None cannot be asked.
        """
        if self._job.needs_no_teacher(prompt):
            return []
        completion = self._completion(prompt)
        first = 0
        if is_free(prompt):
            answer = self._cached_answer(self._request(prompt))
            ids = self._aligner.text_ids(self._text(prompt), answer.tokens)
            if ids is None or not self._aligner.prompt_agrees(
                prompt.teacher_prompt, answer.prompt_tokens
            ):
                return None
            first = len(completion) - 1
            if len(answer.tokens) > first:
                if self._aligner.id_of(answer.tokens[first].name) == completion[first]:
                    return []
        if self.capabilities.prompt_logprobs:
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
            tokens = self._cached_answer(self._request(prompt)).tokens
            rows = [token.candidates for token in tokens[: len(completion) - bool(further)]]
        for request in further:
            answer = self._cached_answer(request)
            if not self._aligner.prompt_agrees(request.prompt, answer.prompt_tokens):
                return None
            if request.prompt_logprobs:
                listed = [token.candidates for token in answer.prompt]
                rows += listed[len(listed) - (len(completion) - len(rows)) :]
            else:
                # Some list nothing for the token that ends a turn.
                ended = [{}] if answer.stopped else []
                rows += [token.candidates for token in answer.tokens[:1]] or ended
        return rows if len(rows) == len(completion) else None

    def _targets(self, prompt: Prompt) -> Targets | None:
        """Targets from the server's lists; None if they do not fit the student's tokens."""
        completion = self._completion(prompt)
        answer = None if is_free(prompt) else self._job.fixed_answer(self._tokenizer, prompt)
        if answer is not None and self._job.needs_no_teacher(prompt):
            return one_hot_targets(completion, answer)
        rows = self._rows(prompt, completion)
        if rows is None:
            return None
        if answer is None:
            written = self._written_targets(rows, completion)
            return written and (written, None)
        labelled = len(answer.label_ids) > 0
        forced = {answer.position: answer.label_ids} if labelled else {}
        targets = self._aligner.targets(rows, self._top_k, forced)
        if targets is None:
            return None
        if not labelled:
            return targets, None
        ids, logprobs = targets.pad(int(targets.counts.max()))
        at = ids[answer.position].tolist()
        raw = [logprobs[answer.position, at.index(label)] for label in answer.label_ids]
        return targets, LabelTargets(
            answer.position, answer.label_ids, np.array(raw, np.float32), answer.label_logprobs
        )

    def _written_targets(
        self, rows: Sequence[Mapping[str, float]], completion: np.ndarray
    ) -> SparseTargets | None:
        """Targets of an answer of the teacher's own.

        Where it ended its turn rather than its line, the newline is certain.
        """
        likeliest = max(rows[-1], key=rows[-1].__getitem__, default="")
        ended = self._aligner.id_of(likeliest) != completion[-1]
        targets = self._aligner.targets(rows[:-1] if ended else rows, self._top_k, {})
        if targets is None or not ended:
            return targets
        return with_ending(targets, one_hot_targets(completion[-1:], None)[0])
