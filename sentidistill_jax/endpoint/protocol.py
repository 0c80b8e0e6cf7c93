"""One request and one answer, in the words of the servers that speak OpenAI's protocol.

Three shapes of log-probabilities are read: the lists `tokens`, `token_logprobs` and `top_logprobs`
(completions of OpenAI, vLLM and llama-cpp-python), the list of objects `content` (chat, and
completions of llama.cpp's own server), and vLLM's `prompt_logprobs`.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sentidistill_jax.endpoint.settings import EndpointSettings

_BYTES, _ID = "bytes:", "token_id:"  # what a name begins with that is not the token's text
_NO_MASS = -1000.0  # a logprob below it stands for none
_MASS_ERROR = 1e-3  # servers round


class GarbledAnswerError(ValueError):
    """An answer came with status 200, but it is cut off or not what the protocol says."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A prompt and how to go on from it."""

    prompt: str
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    prompt_logprobs: bool = False  # wanted of the prompt's own tokens too; vLLM gives them

    def body(self, settings: EndpointSettings, model: str) -> dict[str, Any]:
        """The JSON object to send."""
        body: dict[str, Any] = {"model": model, "max_tokens": self.max_tokens}
        body |= {"temperature": self.temperature, "top_p": self.top_p}
        if self.stop:
            body["stop"] = list(self.stop)
        if self.seed is not None:
            body["seed"] = self.seed
        if settings.api == "chat":
            body["messages"] = [{"role": "user", "content": self.prompt}]
            if settings.top_logprobs:
                body |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
        else:
            body["prompt"] = self.prompt
            if settings.top_logprobs:
                body["logprobs"] = settings.top_logprobs
                if self.prompt_logprobs:
                    body["prompt_logprobs"] = settings.top_logprobs
        body |= settings.extra_body
        return {name: value for name, value in body.items() if value is not None}


def request_key(settings: EndpointSettings, body: Mapping[str, Any]) -> str:
    """Hash of everything that decides an answer; the same on every machine and address."""
    text = json.dumps([settings.api, body], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclasses.dataclass(frozen=True)
class TokenLogprobs:
    """A token and the likeliest ones in its place.

    A name is the token's text, or `token_id:N` where the server counts, or `bytes:HEX` where its
    bytes are no whole UTF-8 text.

    Raises:
      ValueError: If the candidates have more mass than 1: they are not of the full vocabulary.
    """

    name: str  # "" where the server gives candidates alone
    candidates: Mapping[str, float]  # name -> logprob at temperature 1, the token itself included

    def __post_init__(self):
        mass = sum(math.exp(min(logprob, 1.0)) for logprob in self.candidates.values())
        if not mass <= 1 + _MASS_ERROR:
            raise ValueError(
                f"the server's logprobs of one token add up to {mass:.4f}, expected at most 1; they"
                " are no distribution, set endpoint.top_logprobs=0 to use its text alone"
            )


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server said."""

    model: str  # as the server reports it
    text: str
    finish_reason: str
    tokens: tuple[TokenLogprobs, ...]  # of the text; () without log-probabilities
    prompt: tuple[TokenLogprobs, ...]  # of the prompt's last tokens; () without
    prompt_tokens: int | None  # as the server counts them
    completion_tokens: int

    @property
    def stopped(self) -> bool:
        """Whether it ended by itself rather than at the length limit."""
        return self.finish_reason == "stop"

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain JSON values."""
        values = dataclasses.asdict(self)
        for name in ("tokens", "prompt"):
            values[name] = [[token["name"], token["candidates"]] for token in values[name]]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Answer":
        """Inverse of `to_dict`."""
        lists = {
            name: tuple(TokenLogprobs(*token) for token in values[name])
            for name in ("tokens", "prompt")
        }
        return cls(**{**values, **lists})


def token_name(data: bytes) -> str:
    """The name of a token with these bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _BYTES + data.hex()


def token_id(name: str) -> int | None:
    """The id that a name states, None for a text."""
    number = name.removeprefix(_ID)
    return int(number) if name.startswith(_ID) and number.isdecimal() else None


def parse_answer(data: bytes) -> Answer:
    """Reads the body of an answer.

    Raises:
      GarbledAnswerError: If it is no JSON, lacks a field, or ends before it says why.
    """
    try:
        values = json.loads(data)
        choice = values["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        finish_reason = choice["finish_reason"]
        usage = values.get("usage") or {}
        answer = Answer(
            model=str(values.get("model", "")),
            text=text or "",  # chat servers say null for nothing
            finish_reason=finish_reason,
            tokens=_tokens(choice.get("logprobs")),
            prompt=_prompt(choice.get("prompt_logprobs") or values.get("prompt_logprobs")),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        start = data[:80].decode(errors="replace")
        raise GarbledAnswerError(
            f"the answer is not of OpenAI's protocol ({type(error).__name__}: {error}); it begins"
            f" {start!r}"
        ) from error
    if not isinstance(finish_reason, str) or not isinstance(answer.text, str):
        raise GarbledAnswerError(f"the answer was cut off: finish_reason is {finish_reason!r}")
    return answer


def _tokens(logprobs: Mapping[str, Any] | None) -> tuple[TokenLogprobs, ...]:
    if not logprobs:
        return ()
    if logprobs.get("content") is not None:
        return tuple(
            _token(
                _object_name(item),
                item["logprob"],
                {_object_name(other): other["logprob"] for other in item.get("top_logprobs") or ()},
            )
            for item in logprobs["content"]
        )
    names, values = logprobs.get("tokens") or (), logprobs.get("token_logprobs") or ()
    tops = logprobs.get("top_logprobs") or [None] * len(names)
    return tuple(
        _token(name, value, top or {}) for name, value, top in zip(names, values, tops, strict=True)
    )


def _object_name(item: Mapping[str, Any]) -> str:
    if item.get("bytes"):
        return token_name(bytes(item["bytes"]))
    # llama.cpp numbers its tokens, and writes special ones as nothing.
    return item["token"] or f"{_ID}{item['id']}"


def _prompt(logprobs: Sequence[Mapping[str, Any] | None] | None) -> tuple[TokenLogprobs, ...]:
    """vLLM: per position id -> {logprob, ...}, the prompt's own token among them; none at first."""
    return tuple(
        TokenLogprobs(
            "", _possible({_ID + number: entry["logprob"] for number, entry in entries.items()})
        )
        for entries in logprobs or ()
        if entries
    )


def _token(name: str, logprob: float, candidates: Mapping[str, float]) -> TokenLogprobs:
    return TokenLogprobs(name, _possible({name: logprob} | dict(candidates)))


def _possible(candidates: Mapping[str, float]) -> dict[str, float]:
    """Without what has no mass: servers write it as -inf or -9999."""
    return {name: float(value) for name, value in candidates.items() if value > _NO_MASS}
