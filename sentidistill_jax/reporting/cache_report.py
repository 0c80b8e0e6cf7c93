"""A teacher cache on disk as `sentidistill teach --verify` and `--inspect` show it."""

import pathlib
from collections.abc import Callable, Sequence

from sentidistill_jax.data.teacher_cache import (
    CacheError,
    CacheManifest,
    describe,
    inspect,
    verify,
)
from sentidistill_jax.models.load import load_tokenizer, tokenizer_fingerprint


def verify_cache(directory: pathlib.Path) -> str:
    """Checks every shard, record, key and checksum of a cache; returns a summary.

    Raises:
      FileNotFoundError: If there is no cache.
      CacheError: If anything in it is not as it was written; says what.
    """
    directory = records_of(directory)
    report = verify(directory)
    if report.problems:
        raise CacheError(
            f"teacher cache {directory} is damaged in {len(report.problems)} places: "
            f"{'; '.join(report.problems)}; run the teach command again to write these shards anew."
        )
    return str(report)


def inspect_cache(directory: pathlib.Path) -> str:
    """Manifest, statistics with a histogram, and some records of a cache, in words where possible.

    Raises:
      FileNotFoundError: If there is no cache.
      CacheError: If it is incomplete or damaged.
    """
    statistics = inspect(records_of(directory))
    decode = _decoder_of(statistics.manifest)
    note = "" if decode else " (token ids, as their tokenizer is not at hand)"
    examples = [describe(record, decode) for record in statistics.examples]
    return "\n\n".join([str(statistics), f"examples{note}", *examples])


def records_of(directory: pathlib.Path) -> pathlib.Path:
    """The cache in a stage's directory, or the directory itself."""
    inner = directory / "records"
    return inner if inner.is_dir() else directory


def _decoder_of(manifest: CacheManifest) -> Callable[[Sequence[int]], str] | None:
    """Token ids to text, if the tokenizer that the cache was made with can be found."""
    vocabularies = manifest.config.get("vocabularies", {})
    source = vocabularies.get("student", manifest.config.get("teacher", {})).get("source")
    try:
        tokenizer = load_tokenizer(str(source))
    except (OSError, ValueError):
        return None
    if tokenizer_fingerprint(tokenizer) != manifest.tokenizer_fingerprint:
        return None
    return lambda ids: str(tokenizer.decode(list(ids)))
