"""Config files: the project's own by name, from any folder, and others by path."""

import importlib.util
import pathlib
import sys
from collections.abc import Sequence

_PACKAGE = pathlib.Path(__file__).parent


def own_folder() -> pathlib.Path:
    """Where the project's own configs lie: in an installed package, or beside it in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def config_file(wanted: str) -> str:
    """The file of a config, in the form of --config.

    Args:
      wanted: `NAME` or `PATH`, and perhaps arguments of the config: `NAME:smoke`.

    Raises:
      FileNotFoundError: If it is neither a file nor one of the project's own.
    """
    name, colon, arguments = wanted.partition(":")
    if pathlib.Path(name).is_file():
        return wanted
    own = {file.stem: file for file in sorted(own_folder().glob("[!_]*.py"))}
    if name not in own:
        raise FileNotFoundError(
            f"config file {name!r} not found; give its path, or one of {', '.join(own)}."
        )
    return f"{own[name]}{colon}{arguments}"


def with_config_file(arguments: Sequence[str]) -> list[str]:
    """Arguments of a verb, with the path of the config for its name."""
    found = list(arguments)
    for position, word in enumerate(found):
        if word.startswith("--config="):
            found[position] = f"--config={config_file(word.removeprefix('--config='))}"
        elif position and found[position - 1] == "--config":
            found[position] = config_file(word)
    return found


def make_importable() -> None:
    """Makes `from configs import base` in a config file mean the project's own."""
    if "configs" in sys.modules:
        return
    folder = own_folder()
    spec = importlib.util.spec_from_file_location(
        "configs", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["configs"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
