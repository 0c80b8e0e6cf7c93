"""A text file that grows block by block and has its name once it is whole."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Self

from sentidistill_jax.artifact import ArtifactMismatchError, write_json


class GrowingFile:
    """A file that a later process goes on with where an earlier one was stopped.

    Until `finish`, its blocks stand in `.NAME.partial`, and `.NAME.json` says how many bytes of it
    count: a block that was cut off is written again.

    Args:
      path: The file; does not exist yet.
      made_from: What decides its content; JSON-like.

    Raises:
      ArtifactMismatchError: If it was begun from something else.
    """

    def __init__(self, path: pathlib.Path, made_from: Mapping[str, Any]):
        self._path = path
        self._blocks = path.with_name(f".{path.name}.partial")
        self._log = path.with_name(f".{path.name}.json")
        self._made_from = json.loads(json.dumps(made_from))
        self.state: Mapping[str, Any] = {}  # that of the last block
        size = 0
        if self._log.is_file():
            begun = json.loads(self._log.read_text())
            self._check(begun["made_from"])
            self.state, size = begun["state"], begun["bytes"]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._blocks.open("ab")
        self._file.truncate(size)

    def append(self, block: str, state: Mapping[str, Any]) -> None:
        """Adds a block, and keeps what the next process must know to go on behind it."""
        self._file.write(block.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.state = state
        values = {"made_from": self._made_from, "bytes": self._file.tell(), "state": state}
        write_json(self._log, values)

    def finish(self) -> None:
        """Gives the file its name."""
        self._file.close()
        self._blocks.replace(self._path)
        self._log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _check(self, begun: Mapping[str, Any]) -> None:
        differing = [
            f"{name} was {begun.get(name)!r}, now {self._made_from.get(name)!r}"
            for name in sorted({*begun, *self._made_from})
            if begun.get(name) != self._made_from.get(name)
        ]
        if differing:
            raise ArtifactMismatchError(
                f"{self._path} was begun from something else ({'; '.join(differing)}); choose"
                f" another file, or remove {self._log} to begin again."
            )
