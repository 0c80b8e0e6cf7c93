"""Flags that most verbs share."""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from sentidistill_jax.workdir import Workdir


def define_config(values: flags.FlagValues, default: str, *, required: bool = True) -> None:
    """`--config=FILE` with `--config.FIELD=VALUE`, and `--workdir=DIR`.

    Args:
      values: Where the flags are defined.
      default: The config file that is read without --config.
      required: Without, the config is None where the default file is not found.

    Raises:
      FileNotFoundError: If the default config is not under the current directory.
    """
    try:
        load_default(default)
    except FileNotFoundError:
        if required:
            raise
        default = ""
    config_flags.DEFINE_config_file(
        "config",
        default or None,
        "Config file; see configs/base.py for its fields.",
        flag_values=values,
    )
    define_workdir(values)


def load_default(default: str) -> None:
    """Makes `from configs import base` work wherever the config files lie.

    Raises:
      FileNotFoundError: If the default config is not under the current directory.
    """
    if not pathlib.Path(default).is_file():
        raise FileNotFoundError(
            f"{default} not found from {pathlib.Path.cwd()}; run sentidistill in the folder that"
            " holds configs/."
        )
    root = str(pathlib.Path.cwd())
    if root not in sys.path:
        sys.path.insert(0, root)


def define_workdir(values: flags.FlagValues) -> None:
    """`--workdir=DIR`."""
    flags.DEFINE_string(
        "workdir", "workdir", "Directory of all artifacts of a run.", flag_values=values
    )


def workdir(values: flags.FlagValues) -> Workdir:
    """The working directory."""
    return Workdir(pathlib.Path(values.workdir))
