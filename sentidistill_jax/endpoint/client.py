"""Asks a server many things at a time, each until it has answered, and keeps what it said."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.protocol import (
    Answer,
    GarbledAnswerError,
    Request,
    parse_answer,
    request_key,
)
from sentidistill_jax.endpoint.settings import EndpointError, EndpointSettings

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds before a garbled answer is asked for again


class Endpoint:
    """A model behind an OpenAI-compatible server.

    The `openai` client repeats what fails on the way (no connection, a body cut off, 408, 409, 429
    with the pause that the server asks for, 5xx); this class repeats what arrives and is no answer.

    Args:
      settings: The server, and what it is asked for.
      journal: Holds the answers; what is in it is not asked again.

    Raises:
      EndpointError: If the `openai` package is missing or the key is not in the environment.
    """

    def __init__(self, settings: EndpointSettings, journal: Journal):
        try:
            import openai
        except ImportError as error:
            raise EndpointError(
                "the package openai, which speaks to servers, is not installed; run"
                " `pip install 'sentidistill-jax[endpoint]'`."
            ) from error
        self.settings = settings
        self.journal = journal
        self._openai = openai
        self._key = settings.api_key()
        self._model = settings.model

    @property
    def model(self) -> str:
        """The model's name for the server; asked for once where the settings leave it open.

        Raises:
          EndpointError: If the server cannot be reached, or serves none or several.
        """
        if not self._model:
            names = asyncio.run(self._served())
            if len(names) != 1:
                raise EndpointError(
                    f"{self.settings.base_url} serves {names}, expected one model; choose with"
                    " endpoint.model."
                )
            (self._model,) = names
        return self._model

    def ask(self, requests: Sequence[Request], *, progress: str | None = None) -> list[str]:
        """Gets every answer that the journal lacks; returns the keys of all, in order.

        Args:
          requests: In any number; `concurrency` of them are under way at a time.
          progress: Name of a progress bar; none without.

        Raises:
          EndpointError: If a request fails for good. Those under way are still waited for, and all
            answers are in the journal.
        """
        bodies = [request.body(self.settings, self.model) for request in requests]
        keys = [request_key(self.settings, body) for body in bodies]
        missing = {
            key: body for key, body in zip(keys, bodies, strict=True) if key not in self.journal
        }
        if missing:
            there = len(set(keys)) - len(missing)
            with tqdm(
                total=len(missing) + there, initial=there, desc=progress, unit="answer",
                mininterval=1.0, disable=progress is None,
            ) as bar:  # fmt: skip
                asyncio.run(self._ask(missing, bar))
        return keys

    def answers(self, requests: Sequence[Request], *, progress: str | None = None) -> list[Answer]:
        """As `ask`, and returns the answers themselves."""
        return [self.journal[key] for key in self.ask(requests, progress=progress)]

    async def _ask(self, missing: dict[str, dict[str, Any]], bar: tqdm) -> None:
        waiting = iter(missing.items())
        failures: list[EndpointError] = []
        tokens = 0

        async def work(client: Any) -> None:
            nonlocal tokens
            for key, body in waiting:
                if failures:
                    return
                try:
                    answer = await self._answer(client, body)
                except EndpointError as error:
                    failures.append(error)
                    return
                self.journal.append(key, answer)
                tokens += answer.completion_tokens
                bar.update()
                rate = tokens / max(bar.format_dict["elapsed"], 1e-3)
                bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)

        async with self._client() as client:
            count = min(self.settings.concurrency, len(missing))
            await asyncio.gather(*(work(client) for _ in range(count)))
        if failures:
            kept = f"; {len(self.journal)} answers are kept"
            kept += f" in {self.journal.path}" if self.journal.path else ""
            raise EndpointError(f"{failures[0]}{kept}.", status=failures[0].status)

    async def _answer(self, client: Any, body: dict[str, Any]) -> Answer:
        method = client.chat.completions if self.settings.api == "chat" else client.completions
        named = {name: body[name] for name in ("model", "messages", "prompt") if name in body}
        others = {name: value for name, value in body.items() if name not in named}
        for pause in (*self._pauses(), None):
            with self._errors():
                response = await method.with_raw_response.create(**named, extra_body=others)
            try:
                return parse_answer(response.http_response.content)
            except GarbledAnswerError as error:
                if pause is None:
                    raise EndpointError(
                        f"{self.settings.base_url} gave no usable answer in"
                        f" {self.settings.retries + 1} attempts: {self._hide(str(error))}; check"
                        " that it speaks OpenAI's protocol and endpoint.api fits"
                    ) from None
                await asyncio.sleep(pause)
        raise AssertionError("unreachable: the last pause is None")

    async def _served(self) -> list[str]:
        async with self._client() as client:
            with self._errors():
                return sorted(model.id for model in (await client.models.list()).data)

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        async with self._openai.AsyncOpenAI(
            base_url=self.settings.base_url,
            api_key=self._key or "none",  # the client insists on one
            timeout=self.settings.timeout,
            max_retries=self.settings.retries,
        ) as client:
            yield client

    def _pauses(self) -> Iterator[float]:
        for attempt in range(self.settings.retries):
            longest = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
            yield longest * random.uniform(0.75, 1)  # so that not all come back at once

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the client's errors into one sentence without the key."""
        url, tries = self.settings.base_url, f"in {self.settings.retries + 1} attempts"
        try:
            yield
        except self._openai.APIStatusError as error:
            said = self._hide(" ".join(error.response.text.split())[:300])
            advice = {
                401: f"check the key in {self.settings.api_key_env or 'endpoint.api_key_env'}",
                403: f"check the key in {self.settings.api_key_env or 'endpoint.api_key_env'}",
                404: "check endpoint.base_url and endpoint.model",
                429: "lower endpoint.concurrency, or run the same command again later",
            }.get(error.status_code, "")
            if error.status_code >= 500:
                advice = "run the same command again once the server is well"
            raise EndpointError(
                f"{url} answered {error.status_code} {said!r}{advice and f'; {advice}'}",
                status=error.status_code,
            ) from None
        except self._openai.APITimeoutError:
            raise EndpointError(
                f"{url} gave no answer within {self.settings.timeout:g} s {tries}; raise"
                " endpoint.timeout, or run the same command again later"
            ) from None
        except self._openai.APIConnectionError as error:
            raise EndpointError(
                f"no connection to {url} {tries} ({self._hide(str(error.__cause__ or error))});"
                " check that the server runs, and run the same command again"
            ) from None

    def _hide(self, text: str) -> str:
        """Servers are known to repeat a key that they refuse."""
        return text.replace(self._key, "[key]") if self._key else text
