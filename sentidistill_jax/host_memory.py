"""Memory of the host that XLA's CPU backend asks for again in every call."""

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Lets freed memory stay with the process; call it before threads start.

    A training step on a CPU allocates its temporaries, a gigabyte or more, and frees them. By
    default the C library returns them to the system each time, which then clears every page anew
    when it is touched: a tenth to a fifth of a step. With one heap that is not trimmed, the second
    step finds the memory of the first. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_MMAP_MAX, 0)  # large blocks come from the heap too
    mallopt(_ARENA_MAX, 1)  # and from the one heap that can grow to their size
