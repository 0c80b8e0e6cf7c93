"""The teacher cache: a teacher's sparse distributions on disk; bytes in docs/data_formats.md."""

from sentidistill_jax.data.teacher_cache.inspection import (
    CacheStatistics,
    VerifyReport,
    describe,
    inspect,
    verify,
)
from sentidistill_jax.data.teacher_cache.manifest import (
    MODES,
    TEXT_MODE,
    CacheError,
    CacheManifest,
    CacheMismatchError,
)
from sentidistill_jax.data.teacher_cache.reader import CacheReader, is_whole, open_cache
from sentidistill_jax.data.teacher_cache.records import (
    CacheRecord,
    LabelTargets,
    SparseTargets,
    record_key,
)
from sentidistill_jax.data.teacher_cache.selection import (
    draw,
    sampled_targets,
    select_top_k,
    select_top_p,
)
from sentidistill_jax.data.teacher_cache.writer import CacheWriter, ShardBuilder

__all__ = [
    "MODES",
    "TEXT_MODE",
    "CacheError",
    "CacheManifest",
    "CacheMismatchError",
    "CacheReader",
    "CacheRecord",
    "CacheStatistics",
    "CacheWriter",
    "LabelTargets",
    "ShardBuilder",
    "SparseTargets",
    "VerifyReport",
    "describe",
    "draw",
    "inspect",
    "is_whole",
    "open_cache",
    "record_key",
    "sampled_targets",
    "select_top_k",
    "select_top_p",
    "verify",
]
