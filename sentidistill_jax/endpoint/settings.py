"""How a server is reached and what it is asked for."""

import dataclasses
import json
import os
import urllib.parse
from collections.abc import Mapping
from typing import Any

APIS = ("completions", "chat")


class EndpointError(OSError):
    """A server could not be reached, refused, or answered nothing usable; says what to do.

    Attributes:
      status: HTTP status of the answer, None where there was none.
    """

    def __init__(self, message: str, *, status: int | None = None):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class EndpointSettings:
    """An OpenAI-compatible server. The key itself is never a setting, only its variable's name.

    Raises:
      ValueError: If a field is out of range, or the address carries a password or a key.
    """

    base_url: str  # up to and with /v1
    model: str = ""  # as the server names it; "": the only one that it serves
    api: str = "completions"  # one of APIS
    api_key_env: str = "OPENAI_API_KEY"  # variable that holds the key; "": the server wants none
    top_logprobs: int = 20  # asked for at each token; 0: text alone
    concurrency: int = 16  # requests at a time
    timeout: float = 600.0  # seconds until an answer must be there
    retries: int = 6  # of one request, each after a longer pause
    extra_body: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # None leaves one out

    def __post_init__(self):
        # The address is recorded in manifests, so it must not be a secret.
        address = urllib.parse.urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(
                f"endpoint.base_url={self.base_url!r} must be an address such as"
                " http://localhost:8000/v1."
            )
        if address.username or address.password or address.query or address.fragment:
            raise ValueError(
                "endpoint.base_url must carry no user, password or query, since it is written to"
                " manifests; put the key into the environment and name its variable in"
                " endpoint.api_key_env."
            )
        if self.api not in APIS:
            raise ValueError(f"endpoint.api={self.api!r} must be one of {APIS}.")
        for name, least in (("top_logprobs", 0), ("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"endpoint.{name}={getattr(self, name)} must be at least {least}.")
        if not self.timeout > 0:
            raise ValueError(f"endpoint.timeout={self.timeout} must be more than 0 seconds.")
        json.dumps(dict(self.extra_body))  # goes into requests and their hashes

    def identity(self) -> dict[str, Any]:
        """What decides the answers: where the server runs and how often it is asked do not."""
        return {
            "model": self.model,
            "api": self.api,
            "top_logprobs": self.top_logprobs,
            "extra_body": dict(self.extra_body),
        }

    def api_key(self) -> str:
        """The key, from the environment; "" where the server wants none.

        Raises:
          EndpointError: If the variable is not set.
        """
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise EndpointError(
                f"the environment variable {self.api_key_env!r} is not set, expected the key of"
                f" {self.base_url}; set it, or endpoint.api_key_env='' for a server without keys."
            )
        return key
