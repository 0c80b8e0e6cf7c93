"""Errors that the command line turns into one sentence and an exit code."""

import contextlib
import errno
from collections.abc import Iterator

# Exit codes of the command line.
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
EXIT_RESTART = 75  # EX_TEMPFAIL: all is saved, or a peer or a mount is lost; start the job again

_PASSING = (
    errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT,
    errno.EREMOTEIO,
)  # fmt: skip


class Interrupted(Exception):
    """The user or the scheduler asked to stop, and everything done so far is saved."""


class Preempted(Interrupted):
    """The scheduler takes the machine away and may start the job again elsewhere."""


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or not a number."""


class StorageError(OSError):
    """A disk or a mount failed under a running stage; what was finished before is kept."""


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Around work that has begun, where an error of the operating system is no mistake any more.

    Raises:
      StorageError: Instead of it.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, StorageError):  # none of the system's
            raise
        raise StorageError(
            f"{error}; what was finished is kept, run the same command again once the disk or mount"
            " is well."
        ) from error


def may_pass(error: OSError) -> bool:
    """Whether the same command may succeed later: storage failed, or another process is at work."""
    return isinstance(error, StorageError | BlockingIOError) or error.errno in _PASSING
