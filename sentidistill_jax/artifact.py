"""A directory that one stage makes and others read, with a manifest of what it was made from."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from sentidistill_jax import __version__

SCHEMA_VERSION = 1
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
        self._made_from = json.loads(json.dumps(made_from, default=list))
        begun = directory / "made_from.json"
        if begun.exists():
            got, wanted = _flat(json.loads(begun.read_text())), _flat(self._made_from)
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
        """Records what the directory is made from, before anything is written to it."""
        write_json(self.directory / "made_from.json", self._made_from)

    def finish(self, counts: Mapping[str, Any]) -> None:
        """Marks the directory as complete."""
        write_json(
            self.directory / "manifest.json",
            {
                "schema_version": SCHEMA_VERSION,
                "package_version": __version__,
                "made_from": self._made_from,
                "counts": counts,
            },
        )
