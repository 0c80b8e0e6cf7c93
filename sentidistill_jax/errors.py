"""Errors that the command line turns into one sentence and an exit code."""

# Exit codes of the command line.
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
EXIT_RESTART = 75  # EX_TEMPFAIL: all is saved, or a peer is lost; start the job again


class Interrupted(Exception):
    """The user or the scheduler asked to stop, and everything done so far is saved."""


class Preempted(Interrupted):
    """The scheduler takes the machine away and may start the job again elsewhere."""


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or not a number."""
