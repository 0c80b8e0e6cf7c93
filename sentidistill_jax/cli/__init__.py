"""The console script `sentidistill VERB`."""

from sentidistill_jax.cli.main import main

__all__ = ["main"]
