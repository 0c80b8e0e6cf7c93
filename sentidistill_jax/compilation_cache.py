"""Compiled programs outlive their process: a command that ran before compiles nothing again.

JAX names an entry by the hash of the program, the compiler's version and options, and the
device; of a CPU that includes its features. So one folder serves every config and machine, and
an entry of another kind of machine is never loaded. Entries are never evicted; the folder may be
deleted at any time.
"""

import os
import pathlib
import sys

import jax
from jax.experimental.compilation_cache import compilation_cache

OFF = "off"
_VARIABLE = "SENTIDISTILL_COMPILATION_CACHE"
_JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_DIRECTORY = "jax_compilation_cache_dir"
_SMALLEST = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def configure(setting: str = "", *, alone: bool = True) -> None:
    """Makes JAX keep what it compiles from now on, and look there before it compiles.

    The environment wins: SENTIDISTILL_COMPILATION_CACHE, then JAX_COMPILATION_CACHE_DIR.

    Args:
      setting: `config.compilation_cache`: a folder (or a URL that JAX can write to), "off", or ""
        for the folder sentidistill_jax/xla in the user's cache directory.
      alone: False in a job of several processes. JAX lets process 0 alone write, so they need a
        folder that all of them see: without one that is named, nothing is kept.
    """
    named = os.environ.get(_VARIABLE) or os.environ.get(_JAX_VARIABLE) or setting
    folder = named or (str(_default_folder()) if alone else OFF)
    if folder != OFF and "://" not in folder:
        folder = _writable(pathlib.Path(folder).expanduser())
    directory = None if folder == OFF else folder
    if directory != getattr(jax.config, _DIRECTORY):
        jax.config.update(_DIRECTORY, directory)
        compilation_cache.reset_cache()  # or the first folder of the process stays in use
    # Small programs too, where JAX's own variables do not say otherwise: a hundred of them cost
    # seconds at each start.
    for name, smallest in _SMALLEST.items():
        if name.upper() not in os.environ:
            jax.config.update(name, smallest)


def _default_folder() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache, "sentidistill_jax", "xla")


def _writable(folder: pathlib.Path) -> str:
    """The folder, made where it is missing; "off" and a warning where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it is read-only")
    except OSError as error:
        print(
            f"sentidistill: compiled programs are not kept, as {folder} cannot be written"
            f" ({error}); name another folder in {_VARIABLE}, or {OFF!r}.",
            file=sys.stderr,
        )
        return OFF
    return str(folder)
