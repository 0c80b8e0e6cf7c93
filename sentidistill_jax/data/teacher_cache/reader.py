"""Random access to the records of a finished cache, checked before and while reading."""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from array_record.python import array_record_data_source

from sentidistill_jax.data.teacher_cache.codec import (
    Header,
    decode_records,
    make_codec,
    read_header,
)
from sentidistill_jax.data.teacher_cache.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    CacheError,
    CacheManifest,
    CacheMismatchError,
    ShardLog,
    differences,
    log_path,
    read_log,
    sha256_of,
    unseal,
)
from sentidistill_jax.data.teacher_cache.records import CacheRecord

_READ_AHEAD = 256  # records held while iterating


class CacheReader:
    """The records of a cache as a sequence; a source for Grain that can be pickled and shared.

    What the attributes say comes from the logs of the shards: no record is decoded for it.
    """

    def __init__(self, directory: pathlib.Path, manifest: CacheManifest, logs: Sequence[ShardLog]):
        """For `open_cache`, which checks the directory first."""
        self.manifest = manifest
        self.max_entries = max(log.max_entries for log in logs)  # most entries at a position
        self.lengths = np.concatenate([log.lengths for log in logs])  # int32 [records], tokens
        self.completion_lengths = np.concatenate(
            [log.completion_lengths for log in logs]
        )  # int32 [records]
        self.kinds = tuple(sorted({kind for log in logs for kind in log.kinds}))
        self.kind_ids = np.concatenate(
            [np.searchsorted(self.kinds, log.kinds)[log.kind_ids].astype(np.int32) for log in logs]
        )  # int32 [records], into kinds
        self.keys = np.concatenate([log.keys for log in logs])  # uint8 [records, KEY_BYTES]
        self._codec = make_codec(manifest)
        self._ends = np.cumsum([len(log.lengths) for log in logs])  # one past each shard's last
        # With the range in the name, a file is not opened before a record of it is read.
        self._source = array_record_data_source.ArrayRecordDataSource(
            [
                f"{directory / manifest.shard_name(log.shard)}[0:{len(log.lengths)}]"
                for log in logs
                if len(log.lengths)
            ]
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> CacheRecord:
        """Reads, checks and decodes a record.

        Raises:
          IndexError: If there is no such record.
          CacheError: If the record is damaged or belongs elsewhere; names shard and record.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[CacheRecord]:
        """Several records, many times faster than one by one; raises as for a single one."""
        read = [self._read(index) for index in indices]
        return decode_records(
            [data for data, _ in read], [header for _, header in read], self._codec
        )

    def __iter__(self) -> Iterator[CacheRecord]:
        """Every record, in order of index; raises as for a single one."""
        for start in range(0, len(self), _READ_AHEAD):
            yield from self.__getitems__(range(start, min(start + _READ_AHEAD, len(self))))

    def shard_records(self, shard: int) -> range:
        """Indices of the records of a shard."""
        end = int(self._ends[shard])
        return range(int(self._ends[shard - 1]) if shard else 0, end)

    def targets_bytes(self, index: int) -> int:
        """Size of the encoded targets of a record; raises as reading the record does."""
        return self._read(index)[1].targets_bytes

    def _read(self, index: int) -> tuple[bytes, Header]:
        """The bytes of a record, once its checksum and key are found to fit."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} is none of the {len(self)} of the cache.")
        try:
            data = self._source[index]
            header = read_header(data)
            if header.key != self.keys[index].tobytes():
                raise CacheError(f"its key is {header.key.hex()}, not the one in the log")
        # RuntimeError and IndexError: array_record's own checks of the file.
        except (CacheError, RuntimeError, IndexError) as error:
            shard = int(np.searchsorted(self._ends, index, side="right"))
            raise CacheError(
                f"{self.manifest.shard_name(shard)}, record {index}: damaged ({error}); "
                "delete the shard and run the capture again."
            ) from error
        return data, header


def open_cache(
    directory: str | os.PathLike[str], *, expect: Mapping[str, object] | None = None
) -> CacheReader:
    """Opens a finished cache after checking that it is whole and the one that is meant.

    Args:
      directory: Where a `CacheWriter` finished it.
      expect: Values that fields of the manifest must have.

    Raises:
      FileNotFoundError: If the directory holds no cache at all.
      CacheMismatchError: Lists every field that differs and every shard that is missing, of
        another size, or not the one in the manifest.
      CacheError: If the manifest is damaged.
    """
    directory = pathlib.Path(directory)
    manifest = _read_manifest(directory)
    problems = differences(manifest.to_dict(), expect or {})
    logs = []
    for entry in manifest.shards:
        file = directory / entry.name
        try:
            log = read_log(file)
            if sha256_of(log_path(file)) != entry.log_sha256:
                raise CacheError(f"{log_path(file).name} is not the one in the manifest")
            logs.append(log)
        except FileNotFoundError as error:
            problems.append(f"{pathlib.Path(error.filename).name} is missing")
        except CacheError as error:
            problems.append(str(error).rstrip("."))
    if problems:
        raise CacheMismatchError(directory, problems)
    return CacheReader(directory, manifest, logs)


def is_whole(directory: pathlib.Path) -> bool:
    """Whether a cache is finished and each of its files is the one that was written; reads all."""
    try:
        manifest = open_cache(directory).manifest
    except (FileNotFoundError, CacheError):
        return False
    return all(sha256_of(directory / entry.name) == entry.sha256 for entry in manifest.shards)


def _read_manifest(directory: pathlib.Path) -> CacheManifest:
    path = directory / MANIFEST_NAME
    if not path.exists():
        if any(directory.glob("shard-*")):
            raise CacheMismatchError(
                directory, [f"{MANIFEST_NAME} is missing: run the capture again to finish it"]
            )
        raise FileNotFoundError(f"no teacher cache in {directory}: {path} does not exist.")
    values = unseal(path.read_bytes(), path)
    problems = differences(values, {"schema_version": SCHEMA_VERSION})
    if problems:  # then the other fields cannot be trusted to mean what they say
        raise CacheMismatchError(directory, problems)
    try:
        manifest = CacheManifest.from_dict(values)
    except (KeyError, TypeError) as error:
        raise CacheError(f"{path} is no manifest ({error}); run the capture again.") from error
    if len(manifest.shards) != manifest.num_shards:
        found = f"shards: got {len(manifest.shards)}, expected {manifest.num_shards}"
        raise CacheMismatchError(directory, [found])
    return manifest
