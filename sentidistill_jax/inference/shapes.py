"""The few shapes that are compiled, whatever the lengths of the prompts."""

import dataclasses

_STEP = 4  # from one length of scored prompts to the next


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What suits a platform."""

    tokens_per_batch: int  # read in one call
    max_num_seqs: int  # continuations under way at one time
    tokens_at_once: int  # of a continuation, between two looks of the host
    shortest: int  # slots of the shortest row
    chunks: int  # calls that read a row of the greatest length

    @classmethod
    def of(cls, platform: str) -> "Defaults":
        """A CPU computes with narrow chunks as fast, and idle rows cost it as much as others."""
        if platform == "cpu":
            return cls(512, 64, 8, shortest=128, chunks=16)
        return cls(16384, 256, 32, shortest=512, chunks=4)


@dataclasses.dataclass(frozen=True)
class ReadShape:
    """Prompts are read in chunks: so many rows, each up to so many tokens long."""

    rows: int
    chunk: int  # tokens of every row in one call
    length: int  # slots of a row, a multiple of the chunk


def score_shape(own: int, copied: int, defaults: Defaults, data_parallel: int) -> ReadShape:
    """The shape in which a prompt is read that is to be scored.

    Args:
      own: Tokens of the prompt behind its beginning.
      copied: Tokens of the beginning that rows get as a copy; 0: none.
      defaults: What suits the platform.
      data_parallel: Rows are a multiple of it.
    """
    slots = defaults.shortest
    while slots < _in_chunks(own, copied, slots // defaults.chunks):
        slots *= _STEP
    chunk = slots // defaults.chunks
    return ReadShape(_multiple(defaults.tokens_per_batch // chunk, data_parallel), chunk, slots)


def prompt_shape(
    own: int, copied: int, rows: int, defaults: Defaults, data_parallel: int
) -> ReadShape:
    """The shape in which prompts are read that are to be continued.

    Args:
      own: Tokens of the longest prompt behind its beginning.
      copied: Tokens of a beginning that rows get as a copy; 0: none.
      rows: Continuations under way at one time; half as many are read together.
      defaults: What suits the platform.
      data_parallel: Rows are a multiple of it.
    """
    rows = _multiple(rows // 2, data_parallel)
    chunk = min(128, padded(max(1, defaults.tokens_per_batch // rows), 8))
    return ReadShape(rows, chunk, slots(_in_chunks(own, copied, chunk), chunk))


def _in_chunks(own: int, copied: int, chunk: int) -> int:
    """Slots that a beginning and a prompt behind it take, each in whole chunks."""
    return -(-own // chunk) * chunk + -(-copied // chunk) * chunk


def slots(tokens: int, multiple: int = 1) -> int:
    """Length of a cache for so many tokens: 128, 192, 256, 384, 512, ... of a chunk's multiples."""
    length = padded(tokens, 128)
    shorter = length * 3 // 4
    return shorter if shorter >= max(tokens, 128) and shorter % multiple == 0 else length


def padded(count: int, least: int) -> int:
    """A count that is compiled for in the place of `count`: a power of two, at least `least`."""
    return max(least, 1 << max(0, count - 1).bit_length())


def _multiple(count: int, data_parallel: int) -> int:
    return max(1, count // data_parallel) * data_parallel
