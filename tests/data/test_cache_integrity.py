"""No damage to the files of a cache goes unnoticed, and no read returns anything wrong."""

import pathlib

import numpy as np
import pytest
from cache_records import assert_same_record, files_of, make_manifest, make_records, write_cache

from sentidistill_jax.data.teacher_cache import CacheError, open_cache, verify
from sentidistill_jax.data.teacher_cache.codec import encode_record, make_codec, read_header

MANIFEST = make_manifest(num_prompts=6, records_per_shard=2)
RECORDS = make_records(MANIFEST)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("cache")
    write_cache(directory, MANIFEST)
    return directory


def is_sound(directory: pathlib.Path) -> bool:
    try:
        return not verify(directory).problems
    except (CacheError, FileNotFoundError):
        return False


def assert_reads_right_or_not_at_all(directory: pathlib.Path) -> None:
    try:
        reader = open_cache(directory)
    except (CacheError, FileNotFoundError):
        return
    for index, expected in enumerate(RECORDS):
        try:
            got = reader[index]
        except CacheError as error:
            assert f"record {index}: damaged" in str(error)
        else:
            assert_same_record(got, expected)


def test_an_untouched_cache_is_sound(cache):
    assert is_sound(cache)


def test_flipped_bits(cache):
    rng = np.random.default_rng(0)
    for name, data in files_of(cache).items():
        # Shards are padded to 64 KiB with zeros: half of the flips go to where the records are.
        used = len(data.rstrip(b"\0"))
        for _ in range(150):
            bit = int(rng.integers(8 * rng.choice([used, len(data)])))
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            (cache / name).write_bytes(damaged)
            assert not is_sound(cache), f"bit {bit} of {name}"
            assert_reads_right_or_not_at_all(cache)
        (cache / name).write_bytes(data)
    assert is_sound(cache)


def test_a_record_checks_itself_whatever_file_it_lies_in():
    data = encode_record(RECORDS[0], make_codec(MANIFEST))
    assert read_header(data).key == RECORDS[0].key
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CacheError, match="checksum"):
            read_header(bytes(damaged))
    for size in range(len(data)):
        with pytest.raises(CacheError, match="checksum"):
            read_header(data[:size])


def test_cut_files(cache):
    rng = np.random.default_rng(1)
    for name, data in files_of(cache).items():
        for size in [0, len(data) - 1, *rng.integers(len(data), size=20).tolist()]:
            (cache / name).write_bytes(data[:size])
            assert not is_sound(cache), f"{name} cut to {size} bytes"
        (cache / name).unlink()
        assert not is_sound(cache), f"{name} deleted"
        (cache / name).write_bytes(data)
    assert is_sound(cache)


@pytest.mark.parametrize("suffixes", [("",), (".json",), ("", ".json")])
def test_swapped_shards(cache, suffixes):
    files = files_of(cache)
    for first, second in [(0, 1), (1, 2), (0, 2)]:
        for suffix in suffixes:
            one, other = (MANIFEST.shard_name(shard) + suffix for shard in (first, second))
            (cache / one).write_bytes(files[other])
            (cache / other).write_bytes(files[one])
        assert not is_sound(cache)
        assert_reads_right_or_not_at_all(cache)
        for name, data in files.items():
            (cache / name).write_bytes(data)
    assert is_sound(cache)


def test_a_shard_of_another_teacher(cache, tmp_path):
    other = make_manifest(num_prompts=6, records_per_shard=2, teacher_fingerprint="another")
    write_cache(tmp_path, other)
    files = files_of(cache)
    name = MANIFEST.shard_name(1)
    (cache / name).write_bytes((tmp_path / name).read_bytes())
    assert not is_sound(cache)  # the bytes differ in their keys alone
    with pytest.raises(CacheError, match="its key is"):
        open_cache(cache)[2]
    (cache / name).write_bytes(files[name])
