"""Any model the project can read, as one object: decoder, tokenizer, and where they came from."""

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.embedded import EMBEDDED, embedded_path
from sentidistill_jax.models.gguf import GGUFFile
from sentidistill_jax.models.hf import load_decoder, read_hf_directory, read_json, weight_files
from sentidistill_jax.models.trimmed_vocabulary import TrimmedVocabulary, read_tokenizer


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A decoder with its tokenizer."""

    decoder: Decoder
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str  # hash of the weight files
    source: str  # what was asked for
    trimmed: TrimmedVocabulary | None = None  # the part of its teacher's vocabulary that it has
    # Its generation_config.json.
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def cache_tokenizer(self) -> str:
        """Fingerprint of the tokenizer whose ids a cache must hold to teach this model."""
        if self.trimmed is not None:
            return self.trimmed.source_tokenizer
        return tokenizer_fingerprint(self.tokenizer)

    @property
    def cache_vocab_size(self) -> int:
        """Size of the vocabulary that those ids are of."""
        if self.trimmed is not None:
            return self.trimmed.source_vocab_size
        return self.decoder.config.vocab_size


def weights_fingerprint(source: str) -> str:
    """Hash of the weight files of what `load_model` would load; read again only if one changes.

    Raises:
      FileNotFoundError: If there is nothing at `source`.
    """
    path = _path(source)
    files = [path] if path.suffix == ".gguf" else weight_files(path)
    return _hash_files(tuple((file, *_size_and_time(file)) for file in files))


def _size_and_time(file: pathlib.Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache
def _hash_files(files: tuple[tuple[pathlib.Path, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path, *_ in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything that decides which ids a text becomes."""
    state = tokenizer.backend_tokenizer.to_str()  # type: ignore[attr-defined]
    return hashlib.blake2b(state.encode(), digest_size=16).hexdigest()


def load_model(source: str, mesh: Mesh, **options: Any) -> LoadedModel:
    """Loads an embedded model by name, a GGUF file, or a Hugging Face directory.

    Args:
      source: A key of `EMBEDDED`, a path ending in .gguf, or a directory with config.json.
      mesh: Where the parameters go.
      **options: Further arguments of `Decoder`, such as `dtype` and `remat`.

    Raises:
      FileNotFoundError: If there is nothing at `source`.
      ValueError: If what is there is not a model this project computes.
    """
    path = _path(source)
    if path.suffix == ".gguf":
        file = GGUFFile(path)
        decoder = load_decoder(file.config, file.tensors(), mesh, **options)
        return LoadedModel(decoder, file.tokenizer(), weights_fingerprint(source), source)
    config, tensors = read_hf_directory(path)
    tokenizer = read_tokenizer(path)  # first: weights may take minutes
    decoder = load_decoder(config, tensors, mesh, **options)
    trimmed = TrimmedVocabulary.load(path)
    generation = path / "generation_config.json"
    return LoadedModel(
        decoder,
        tokenizer,
        weights_fingerprint(source),
        source,
        trimmed,
        read_json(generation) if generation.is_file() else {},
    )


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of what `load_model` would load, without its weights.

    Raises:
      FileNotFoundError: If there is nothing at `source`.
      ValueError: If there is no tokenizer, or it cannot be read.
    """
    path = _path(source)
    return GGUFFile(path).tokenizer() if path.suffix == ".gguf" else read_tokenizer(path)


def load_config(source: str) -> ModelConfig:
    """The shape of what `load_model` would load, without its weights.

    Raises:
      FileNotFoundError: If there is nothing at `source`.
      ValueError: If what is there is not a model this project computes.
    """
    path = _path(source)
    return GGUFFile(path).config if path.suffix == ".gguf" else read_hf_directory(path)[0]


def _path(source: str) -> pathlib.Path:
    path = embedded_path(source) if source in EMBEDDED else pathlib.Path(source)
    if not path.is_dir() and path.suffix != ".gguf":
        is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", source)
        advice = "check the path" + (
            f", or run `hf download {source} --local-dir DIR` and name DIR" if is_hub_id else ""
        )
        raise FileNotFoundError(
            f"model {source!r} is none of the embedded models {sorted(EMBEDDED)}, no .gguf file"
            f" and no directory; {advice}."
        )
    return path
