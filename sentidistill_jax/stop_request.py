"""SIGTERM and SIGINT as a request that a loop answers when it can."""

import signal
from typing import Any, Self


class StopRequest:
    """While it is entered, the signals end nothing by themselves."""

    received: signal.Signals | None = None  # the latest that this process got

    def __enter__(self) -> Self:
        self._previous = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def _receive(self, number: int, frame: Any) -> None:
        del frame
        self.received = signal.Signals(number)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
