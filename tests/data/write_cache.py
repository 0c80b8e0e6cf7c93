"""Writes a cache in a process of its own, saying what it does: a victim for crash tests."""

import pathlib
import sys

from cache_records import make_manifest, make_record

from sentidistill_jax.data.teacher_cache import CacheWriter

MANIFEST = make_manifest(num_prompts=120, records_per_shard=3, codec="small")


def main(directory: str, process: int, num_processes: int) -> None:
    writer = CacheWriter(pathlib.Path(directory), MANIFEST)
    for shard in writer.missing_shards():
        if shard % num_processes != process:  # not by place in the list, which others shorten
            continue
        print(shard, flush=True)
        records = [make_record(index, MANIFEST) for index in range(*writer.shard_range(shard))]
        writer.write_shard(shard, records)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
