"""A plain layout of top-k logprobs in NumPy, as a yardstick for size and decoding speed.

For k = 64: token ids packed to the bits that a vocabulary needs, the 16 likeliest logprobs in
bfloat16, the others as a polynomial of their rank with the terms 1, t, t^2, t^3, t^4 and sqrt(t) in
float32. At 17 bits an id: 136 + 32 + 24 = 192 bytes a position. It follows the idea of fitting a
curve to sorted logprobs; it is no other project's file format, and stands for none.
"""

import dataclasses

import numpy as np

EXACT = 16


@dataclasses.dataclass(frozen=True)
class Packed:
    """Positions in that layout."""

    ids: np.ndarray  # uint8 [n, bytes]
    exact: np.ndarray  # uint16 [n, EXACT], bfloat16
    coefficients: np.ndarray  # float32 [n, terms]

    @property
    def bytes_per_position(self) -> int:
        """All three parts."""
        parts = (self.ids, self.exact, self.coefficients)
        return sum(part.nbytes for part in parts) // len(self.ids)


def _terms(count: int) -> np.ndarray:
    t = np.arange(count) / count
    return np.stack([t**0, t, t**2, t**3, t**4, np.sqrt(t)]).astype(np.float32)


def encode(ids: np.ndarray, logprobs: np.ndarray, vocab_size: int) -> Packed:
    """Packs ids and logprobs [n, k], by descending logprob."""
    width = (vocab_size - 1).bit_length()
    bits = (ids[:, :, None] >> np.arange(width)) & 1
    packed = np.packbits(bits.astype(np.uint8).reshape(len(ids), -1), axis=1)
    words = logprobs[:, :EXACT].astype(np.float32).view(np.uint32)
    exact = ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)
    rest = logprobs[:, EXACT:]
    fit = np.linalg.lstsq(_terms(rest.shape[1]).T.astype(np.float64), rest.T, rcond=None)[0].T
    return Packed(packed, exact, fit.astype(np.float32))


def decode(packed: Packed, k: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 and logprobs float32, [n, k]."""
    width = (vocab_size - 1).bit_length()
    bits = np.unpackbits(packed.ids, axis=1, count=k * width).reshape(-1, k, width)
    weights = (1 << np.arange(width)).astype(np.float32)  # exact below 2^24, and a fast product
    ids = (bits.astype(np.float32) @ weights).astype(np.int32)
    exact = (packed.exact.astype(np.uint32) << 16).view(np.float32)
    return ids, np.concatenate([exact, packed.coefficients @ _terms(k - EXACT)], axis=1)
