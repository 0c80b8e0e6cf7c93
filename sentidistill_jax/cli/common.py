"""Flags that most verbs share."""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from sentidistill_jax.config_files import config_file, make_importable
from sentidistill_jax.workdir import Workdir


def define_config(values: flags.FlagValues, default: str) -> None:
    """`--config=NAME` or `--config=FILE` with `--config.FIELD=VALUE`, and `--workdir=DIR`.

    Args:
      values: Where the flags are defined.
      default: The config that is read without --config.
    """
    make_importable()
    root = str(pathlib.Path.cwd())
    if root not in sys.path:
        sys.path.insert(0, root)  # for modules of the user's own that a config file imports
    config_flags.DEFINE_config_file(
        "config",
        config_file(default),
        "Config: knowdist, icldist, demo, pod, or a path; configs/base.py explains its fields.",
        flag_values=values,
    )
    define_workdir(values)


def define_workdir(values: flags.FlagValues) -> None:
    """`--workdir=DIR`."""
    flags.DEFINE_string(
        "workdir", "workdir", "Directory of all artifacts of a run.", flag_values=values
    )


def workdir(values: flags.FlagValues) -> Workdir:
    """The working directory."""
    return Workdir(pathlib.Path(values.workdir))
