"""What documents and comments name is there: paths, modules, commands, flags, config fields."""

import functools
import pathlib
import pkgutil
import re
import shlex
from collections.abc import Iterator

import pytest
from absl import flags
from ml_collections import ConfigDict

from configs import base
from sentidistill_jax.cli.main import VERBS

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "sentidistill_jax"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Files whose comments and docstrings name others.
COMMENTED = [
    ROOT / "setup.py", ROOT / "Makefile", *sorted((ROOT / "launch").glob("*")),
    *sorted((ROOT / "configs").glob("*.py")), *sorted(PACKAGE.rglob("*.py")),
]  # fmt: skip
_TOP = "sentidistill_jax|configs|docs|tests|benchmarks|launch|notebooks"
_PATH = re.compile(rf"(?<![\w/.])(?:{_TOP})/[\w./-]*\w\.(?:py|sh|md|ipynb|svg|ini|yaml)\b")
_BLANK = re.compile("[A-Z]{3}")  # NAME, to be filled in
_FILE = re.compile(r"(?:[\w-]+/)*[\w-]+\.(?:py|sh|md|ipynb)")
_FOLDER = re.compile(rf"(?:{_TOP})/[a-z_/]+")
_FIELD = re.compile(r"(?:--)?(?:config\.)?(\w+(?:\.\w+)+)(?:=.*)?", re.DOTALL)

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def spans(document: pathlib.Path) -> list[str]:
    """Pieces of inline code, and the lines of code blocks with continued lines joined."""
    text = document.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)] + lines


def commands(document: pathlib.Path, program: str) -> Iterator[list[str]]:
    """The words that follow `program`, up to the end of the span or a comment."""
    for span in spans(document):
        for found in re.finditer(rf"(?<![\w./-])(?:\.venv/bin/)?{program} (.*)", span):
            try:
                yield shlex.split(found[1], comments=True)
            except ValueError:  # an ellipsis of quotes
                yield found[1].split()


def is_somewhere(name: str, document: pathlib.Path) -> bool:
    """From the root, the package, the tests or the document; a bare name in any folder."""
    places = (ROOT, PACKAGE, ROOT / "tests", document.parent)
    if any((place / name).exists() for place in places):
        return True
    parts = ("sentidistill_jax", "tests", "benchmarks", "launch")
    return "/" not in name and any(any((ROOT / part).rglob(name)) for part in parts)


def is_name(dotted: str) -> bool:
    """Whether it can be imported."""
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def is_field(dotted: str) -> bool:
    """Whether configs have it; keys of a section that starts empty are data."""
    value = base.get_config()
    for name in dotted.split("."):
        if not isinstance(value, ConfigDict) or (len(value) and name not in value):
            return False
        value = value.get(name)
    return True


@functools.cache
def flags_of(verb: str) -> flags.FlagValues:
    values = flags.FlagValues()
    pkgutil.resolve_name(f"sentidistill_jax.cli.verbs.{verb}:VERB").define_flags(values)
    return values


def is_option(verb: str, word: str) -> bool:
    name = re.split("[=:]", word.removeprefix("--"))[0]
    if name.startswith("config."):
        return is_field(name.removeprefix("config."))
    name = name.split(".")[0]
    return name in flags_of(verb) or name.removeprefix("no") in flags_of(verb) or name == "help"


def test_paths_exist():
    missing = {}
    for file in filter(pathlib.Path.is_file, DOCUMENTS + COMMENTED):
        named = {name for name in _PATH.findall(file.read_text()) if not _BLANK.search(name)}
        gone = sorted(name for name in named if not (ROOT / name).exists())
        missing |= {str(file.relative_to(ROOT)): gone} if gone else {}
    assert missing == {}


@every_document
def test_files_and_folders_of_inline_code_exist(document):
    named = {span for span in spans(document) if _FILE.fullmatch(span) or _FOLDER.fullmatch(span)}
    assert sorted(name for name in named if not is_somewhere(name, document)) == []


@every_document
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@every_document
def test_modules_and_what_they_hold_can_be_imported(document):
    named = set(re.findall(r"\bsentidistill_jax(?:\.\w+)+", document.read_text()))
    assert sorted(name for name in named if not is_name(name)) == []


@every_document
def test_config_fields_exist(document):
    sections = {name for name, value in base.get_config().items() if isinstance(value, ConfigDict)}
    found = (_FIELD.fullmatch(span) for span in spans(document) if not _FILE.fullmatch(span))
    named = {match[1] for match in found if match and match[1].split(".")[0] in sections}
    missing = [name for name in sorted(named) if not is_field(name)]
    assert [name for name in missing if not is_name(f"sentidistill_jax.{name}")] == []


@every_document
def test_verbs_and_their_flags_exist(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    wrong = []
    for verb, *words in commands(document, "sentidistill"):
        if verb == "VERB":
            continue
        options = [word for word in words if word.startswith("--")]
        if verb not in VERBS or not all(is_option(verb, option) for option in options):
            wrong.append([verb, *options])
    assert wrong == []


@every_document
def test_what_make_and_python_are_told_to_run_is_there(document):
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^(\w+):", makefile, re.MULTILINE)
    assert [words[0] for words in commands(document, "make") if words[0] not in targets] == []
    for words in commands(document, r"python3?"):
        module = words[1] if words[0] == "-m" else ""
        if module:
            assert is_name(module), words
        elif words[0].endswith(".py"):
            assert (ROOT / words[0]).is_file(), words


def test_the_documents_name_something_of_each_sort():
    """A pattern that finds nothing proves nothing."""
    text = [span for document in DOCUMENTS for span in spans(document)]
    assert sum(bool(_FILE.fullmatch(span)) for span in text) > 20
    assert sum(bool(_FIELD.fullmatch(span)) for span in text) > 20
    verbs = {words[0] for document in DOCUMENTS for words in commands(document, "sentidistill")}
    assert verbs >= {"corpus", "teach", "train", "evaluate", "plan", "predict", "export"}
    assert not is_field("optimizer.learning_rat") and is_field("annotate.priors.sentiment")
    assert not is_option("train", "--model") and is_option("evaluate", "--model=teacher")
    assert not is_somewhere("launch/setup_env.sh", ROOT / "README.md")
