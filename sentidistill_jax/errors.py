"""Errors that the command line turns into one sentence and an exit code."""


class Interrupted(Exception):
    """The user or the scheduler asked to stop, and everything done so far is saved."""


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or not a number."""
