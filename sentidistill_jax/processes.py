"""Several processes that share a file system: whose turn it is, and waiting for the others."""

import jax
from jax.experimental import multihost_utils


def wait_for_all(point: str) -> None:
    """Returns once every process of the run has come to this point of the program."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(point)


def is_first() -> bool:
    """Whether this is the process that does what must be done once."""
    return jax.process_index() == 0
