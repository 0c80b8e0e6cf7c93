"""Which codec a manifest asks for."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sentidistill_jax.data.teacher_cache.fast import FastCodec
from sentidistill_jax.data.teacher_cache.manifest import CacheManifest
from sentidistill_jax.data.teacher_cache.records import SparseTargets
from sentidistill_jax.data.teacher_cache.small import SmallCodec
from sentidistill_jax.data.teacher_cache.values import DrawCounts, RootLevels


class Codec(Protocol):
    """Arrays to bytes and back; ids are lossless in every codec."""

    def encode_tokens(self, tokens: np.ndarray) -> bytes:
        """Packs token ids, int32 [seq]."""
        ...

    def decode_tokens(
        self, parts: Sequence[memoryview], num_tokens: Sequence[int]
    ) -> list[np.ndarray]:
        """Unpacks the token ids of several records, which fill `parts`."""
        ...

    def encode_targets(self, targets: SparseTargets) -> bytes:
        """Packs targets whose entries are sorted by id."""
        ...

    def decode_targets(
        self, parts: Sequence[memoryview], num_positions: Sequence[int]
    ) -> list[SparseTargets]:
        """Unpacks the targets of several records, which fill `parts`."""
        ...


def make_codec(manifest: CacheManifest) -> Codec:
    """The codec that reads and writes the records of a cache."""
    if manifest.codec == "fast":
        return FastCodec(len(manifest.temperatures))
    if manifest.num_draws is not None:
        return SmallCodec(DrawCounts(manifest.num_draws), manifest.vocab_size)
    return SmallCodec(RootLevels(manifest.temperatures), manifest.vocab_size)
