"""A directory that one stage makes and others read, with a manifest of what it was made from."""

import fcntl
import hashlib
import json
import os
import pathlib
import socket
from collections.abc import Mapping
from typing import Any

from sentidistill_jax import __version__

SCHEMA_VERSION = 1
_LOCK = ".lock"
# Lock file -> its descriptor; the system lets go of the lock when the process ends, however.
_locks: dict[pathlib.Path, int] = {}
# Folder of a working directory -> the verb that makes what is in it.
_MADE_BY = {
    "texts": "corpus", "annotations": "corpus", "corpus": "corpus", "cache": "teach",
    "students": "train", "evaluation": "evaluate",
}  # fmt: skip


class ArtifactMismatchError(ValueError):
    """A directory was made from other inputs or settings than those now asked for."""


def fingerprint(value: Any) -> str:
    """Hash of JSON-like values; the same on every machine."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_fingerprint(path: pathlib.Path) -> str:
    """Hash of a file's bytes.

    Raises:
      FileNotFoundError: If the stage that makes the file has not run.
    """
    if not path.is_file():
        verbs = (_MADE_BY.get(part) for part in reversed(path.parts))
        verb = next(filter(None, verbs), "corpus")
        raise FileNotFoundError(f"{path} not found; run `sentidistill {verb}` first.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes a JSON file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


class Artifact:
    """One stage's output directory.

    Args:
      directory: Where it is or will be.
      made_from: Settings and fingerprints of inputs; JSON-like.

    Raises:
      ArtifactMismatchError: If the directory was begun with other settings or inputs.
    """

    def __init__(self, directory: pathlib.Path, made_from: Mapping[str, Any]):
        self.directory = directory
        self.made_from = json.loads(json.dumps(made_from, default=list))
        begun = directory / "made_from.json"
        if begun.exists():
            got, wanted = _flat(json.loads(begun.read_text())), _flat(self.made_from)
            differing = [
                f"{name} was {got.get(name)!r}, now {wanted.get(name)!r}"
                for name in sorted(set(got) | set(wanted))
                if got.get(name) != wanted.get(name)
            ]
            if differing:
                raise ArtifactMismatchError(
                    f"{directory} was made from something else ({'; '.join(differing)}); choose"
                    " another --workdir or remove that directory."
                )

    @property
    def finished(self) -> bool:
        """Whether the stage has completed here."""
        return (self.directory / "manifest.json").exists()

    def begin(self) -> None:
        """Records what the directory is made from, before anything is written to it.

        From here on it belongs to this process, until `finish` or the end of the process.

        Raises:
          BlockingIOError: If another process is writing to it.
        """
        _lock(self.directory)
        write_json(self.directory / "made_from.json", self.made_from)

    def finish(self, counts: Mapping[str, Any]) -> None:
        """Marks the directory as complete."""
        write_json(
            self.directory / "manifest.json",
            {
                "schema_version": SCHEMA_VERSION,
                "package_version": __version__,
                "made_from": self.made_from,
                "counts": counts,
            },
        )
        _unlock(self.directory)


def _lock(directory: pathlib.Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory.resolve() / _LOCK
    if path in _locks:
        return
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 1000).decode(errors="replace") or "another process"
        os.close(lock)
        raise BlockingIOError(
            f"{directory} is being written by {holder}; wait until it has ended, or stop it."
        ) from error
    except OSError:  # a file system without locks
        os.close(lock)
        return
    if not os.fstat(lock).st_nlink:  # its holder finished while this one opened it
        os.close(lock)
        return _lock(directory)
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _locks[path] = lock


def _unlock(directory: pathlib.Path) -> None:
    path = directory.resolve() / _LOCK
    lock = _locks.pop(path, None)
    if lock is not None:
        path.unlink(missing_ok=True)
        os.close(lock)
