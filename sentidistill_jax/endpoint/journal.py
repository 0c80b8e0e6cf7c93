"""Answers on disk as they come: one line each, so that nothing that was paid for is lost."""

import fcntl
import json
import os
import pathlib
import tempfile
import weakref
from collections.abc import Mapping
from typing import IO, Any

from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.endpoint.protocol import Answer

_SYNC_EVERY = 64  # answers; a machine that fails loses at most these, a process that is killed none


class Journal:
    """An append-only file of answers by the key of their request.

    Closed by `with`, or when it is no longer used. Each line is a JSON object `{"key": ...,
    "answer": {...}, "checksum": ...}`. Only positions are held in memory.

    Args:
      path: Created on the first answer; None keeps the answers in a temporary file.

    Raises:
      ValueError: If a line is damaged other than by being the last one and cut off, or its answer
        is none that a server may give.
      BlockingIOError: If another process writes to it.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self.path = path
        self.models: set[str] = set()  # that gave the answers, as they report themselves
        self._positions: dict[str, int] = {}
        self._unsynced = 0
        self._file: IO[bytes] | None = None
        self._close: weakref.finalize | None = None
        if path is not None and path.exists():
            self._open()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return key in self._positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: str) -> Answer:
        """Reads an answer.

        Raises:
          KeyError: If the request has none.
        """
        position = self._positions[key]
        assert self._file is not None
        self._file.seek(position)
        return Answer.from_dict(json.loads(self._file.readline())["answer"])

    def append(self, key: str, answer: Answer) -> None:
        """Adds an answer; it outlives this process as soon as this returns."""
        if self._file is None:
            self._open()
        assert self._file is not None
        values = answer.to_dict()
        line = json.dumps({"key": key, "answer": values, "checksum": _checksum(key, values)}) + "\n"
        self._positions[key] = self._file.seek(0, os.SEEK_END)
        self.models.add(answer.model)
        self._file.write(line.encode())
        self._file.flush()
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            os.fsync(self._file.fileno())
            self._unsynced = 0

    def close(self) -> None:
        """Waits until all answers are on the disk."""
        if self._close is not None:
            self._close()
            self._file = self._close = None

    def _open(self) -> None:
        if self.path is None:
            file = tempfile.TemporaryFile()
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.close()
                raise BlockingIOError(
                    f"another process writes to {self.path}; wait for it or stop it."
                ) from error
        self._file = file
        self._close = weakref.finalize(self, _sync_and_close, file)
        self._read()

    def _read(self) -> None:
        """Finds the lines; a last one that a killed process left half written is cut off."""
        assert self._file is not None
        self._file.seek(0)
        position = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(position)
                break
            try:
                entry = json.loads(line)
                key, answer = entry["key"], entry["answer"]
                if entry.get("checksum", "") not in (_checksum(key, answer), ""):
                    raise ValueError("it does not fit its checksum")
                if key in self._positions:
                    raise ValueError("an earlier line answers the same request")
                self.models.add(Answer.from_dict(answer).model)
                self._positions[key] = position
            except (ValueError, LookupError, TypeError) as error:
                raise ValueError(
                    f"{self.path}:{number} is damaged ({error}); remove that line, and its request"
                    " is asked again."
                ) from error
            position += len(line)


def _checksum(key: str, answer: Mapping[str, Any]) -> str:
    return fingerprint([key, answer])


def _sync_and_close(file: IO[bytes]) -> None:
    os.fsync(file.fileno())
    file.close()
