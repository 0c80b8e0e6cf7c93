"""Tasks and perspectives that a user writes as TOML files; docs/tutorials/own-data.md shows both.

A file holds one table per task or perspective, under its name. What it defines stands in `TASKS` or
`PERSPECTIVES` beside the project's own, and is a part of the fingerprints as they are.
"""

import pathlib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.perspective import Perspective, Verdict, WorkedExample
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.task import Demonstration, OutputFormat, Task, Wording

_MOST_LABELS = 8  # that have a letter in the format "letter"


def load_definitions(tasks: Iterable[str], perspectives: Iterable[str]) -> None:
    """Reads the files that a config names, instead of those that were read before.

    Args:
      tasks: Paths of files with tasks. One of an embedded task's name takes its place; its labels
        must be the same, since people's labels and scores are told by them.
      perspectives: Paths of files with perspectives.

    Raises:
      ValueError: If a file is no TOML, or a table has a field or a value that it cannot have; the
        sentence names file, table and field.
      FileNotFoundError: If there is no such file.
    """
    _TASK_FILES.load(tasks)
    _PERSPECTIVE_FILES.load(perspectives)


class _Files:
    """What a table holds from files, and what stood there before."""

    def __init__(self, table: dict[str, Any], parse: Callable[[str, "_Fields"], Any]):
        self._table, self._parse = table, parse
        self._before: dict[str, Any] = {}

    def load(self, paths: Iterable[str]) -> None:
        for name, before in self._before.items():
            self._table[name] = before  # where it was: draws depend on the order
            if before is None:
                del self._table[name]
        self._before = {}
        for path in paths:
            for name, fields in _tables(path).items():
                place = f"{path}: {name!r}"
                if name in self._before:
                    raise ValueError(f"{place} is defined twice; give it another name.")
                if not isinstance(fields, dict):
                    raise ValueError(f"{place} is no table; write [{name}] above its fields.")
                defined = self._parse(name, _Fields(place, fields))
                self._before[name] = self._table.get(name)
                self._table[name] = defined


def _tables(path: str) -> dict[str, Any]:
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no file {path!r}; correct the path in the config.")
    try:
        return tomllib.loads(pathlib.Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}.") from error


class _Fields:
    """The fields of a table, each taken once, and what is wrong with them in one sentence."""

    def __init__(self, place: str, fields: Mapping[str, Any]):
        self._place, self._fields, self._known = place, dict(fields), []

    def text(self, name: str, default: str | None = None, among: Sequence[str] = ()) -> str:
        value = self._take(name, default)
        if not isinstance(value, str) or (among and value not in among):
            self.refuse(name, value, f"one of {', '.join(among)}" if among else "a text")
        return value

    def texts(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        value = self._take(name, default)
        if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
            self.refuse(name, value, "a list of texts")
        return tuple(value)

    def tables(self, name: str) -> list["_Fields"]:
        value = self._take(name, None)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.refuse(name, value, f"tables [[....{name}]]")
        return [_Fields(f"{self._place}, {name}", one) for one in value]

    def lists(self, name: str) -> list[tuple[str, ...]]:
        value = self._take(name, [])
        if not isinstance(value, list):
            self.refuse(name, value, "a list of lists")
        return [_Fields(self._place, {name: one}).texts(name) for one in value]

    def number(self, name: str) -> int:
        value = self._take(name, 0)
        if not isinstance(value, int):
            self.refuse(name, value, "a whole number")
        return value

    def close(self) -> None:
        """Refuses fields that nothing has asked for."""
        if self._fields:
            raise ValueError(
                f"{self._place} has no field {next(iter(self._fields))!r}; its fields are"
                f" {', '.join(self._known)}."
            )

    def refuse(self, name: str, value: Any, expected: str) -> None:
        raise ValueError(f"{self._place} has {name} = {value!r}; expected {expected}.")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        if name not in self._fields and default is None:
            raise ValueError(f"{self._place} lacks {name}; add it.")
        return self._fields.pop(name, default)


def _task(name: str, fields: _Fields) -> Task:
    labels = fields.texts("labels")
    if not 2 <= len(set(labels)) == len(labels) <= _MOST_LABELS:
        fields.refuse("labels", list(labels), f"2 to {_MOST_LABELS} different ones")
    if name in TASKS and TASKS[name].labels != labels:
        fields.refuse("labels", list(labels), f"those of the task: {list(TASKS[name].labels)}")
    verbalizers = (labels, *fields.lists("words"))
    for words in verbalizers:
        if len({word.split()[0] for word in words if word.strip()}) != len(labels):
            fields.refuse("words", list(words), f"{len(labels)} words of different beginnings")
    formats: Any = fields.texts("formats", get_args(OutputFormat))
    if not formats or not set(formats) <= set(get_args(OutputFormat)):
        fields.refuse("formats", list(formats), f"some of {', '.join(get_args(OutputFormat))}")
    text_name = fields.text("text_name", "Text")
    label_name = fields.text("label_name", name.replace("_", " ").capitalize())
    # The first wording asks by the shape of the prompt alone.
    wordings = [Wording("", text_name)]
    wordings += [_wording(one, text_name) for one in fields.tables("wordings")]
    seeds = [_demonstration(one, labels) for one in fields.tables("demonstrations")]
    missing = [label for label in labels if label not in {seed.label for seed in seeds}]
    if missing:
        fields.refuse("demonstrations", len(seeds), f"some of each label, also of {missing[0]!r}")
    fields.close()
    return Task(name, label_name, tuple(wordings), verbalizers, formats=formats, seeds=tuple(seeds))


def _wording(fields: _Fields, text_name: str) -> Wording:
    instruction = fields.text("instruction")
    wording = Wording(
        instruction, fields.text("text_name", text_name), fields.text("label_name", "")
    )
    fields.close()
    try:
        instruction.format(options="")
    except (LookupError, ValueError):
        fields.refuse("instruction", instruction, "no braces but {options}")
    return wording


def _demonstration(fields: _Fields, labels: Sequence[str]) -> Demonstration:
    demonstration = Demonstration(fields.text("text"), fields.text("label", among=labels))
    fields.close()
    return demonstration


def _perspective(name: str, fields: _Fields) -> Perspective:
    sentiment: Any = fields.text("sentiment", "", ("", "same", "opposite")) or None
    perspective = Perspective(
        name,
        fields.text("answer_name"),
        fields.texts("wordings"),
        tuple(map(_example, fields.tables("examples"))),
        sentiment=sentiment,
        max_new_tokens=fields.number("max_new_tokens"),
    )
    fields.close()
    if not perspective.wordings or not perspective.examples:
        fields.refuse("wordings or examples", [], "at least one of each")
    return perspective


def _example(fields: _Fields) -> WorkedExample:
    verdict: Any = fields.text("verdict", among=get_args(Verdict))
    example = WorkedExample(verdict, fields.text("text"), fields.text("answer"))
    fields.close()
    return example


_TASK_FILES = _Files(TASKS, _task)
_PERSPECTIVE_FILES = _Files(PERSPECTIVES, _perspective)
