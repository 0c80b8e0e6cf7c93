"""Records of the corpus and their JSONL files.

The first line of a file is a header that names the record type, the schema version and the number
of records, so that a file of another kind, another version or cut short is refused.
"""

import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, cast

SCHEMA_VERSION = 2

Stage = Literal["healing", "knowdist", "icldist"]
RecordT = TypeVar("RecordT")


@dataclass(frozen=True)
class Prompt:
    """One question to the teacher and the prompt under which the student learns the answer.

    The completion follows the prompt directly. It is one line and ends with a newline; where it may
    have several lines, the end of the teacher's turn ends it. Where the task has labels it is
    `answer_prefix` + one of `label_words` + `answer_suffix`.
    """

    stage: Stage
    # KnowDist perspective ("analyse/target"), ICLDist task ("sentiment") or, in healing, "text".
    kind: str
    text_id: str
    prompt: str  # what the student reads
    teacher_prompt: str  # what the teacher reads; may hold demonstrations that the student lacks
    label_words: tuple[str, ...] = ()  # in the order of the task's labels; () for free text
    answer_prefix: str = ""  # completion text before the label word
    answer_suffix: str = ""  # completion text after the label word, without the final newline
    wording: int = 0  # index of the instruction wording
    format: str = "plain"  # output format
    answer: str | None = None  # the completion where it is known without the teacher
    chat: bool = False  # the teacher's prompt is a user's message and needs the chat template
    multi_line: bool = False  # the answer may go on after a newline
    max_new_tokens: int = 0  # most tokens of the answer; 0: what the generation settings say
    id: str = field(init=False)  # hash of everything above

    def __post_init__(self):
        content = [getattr(self, item.name) for item in fields(self) if item.init]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        object.__setattr__(self, "id", digest[:32])


def write_records(path: pathlib.Path, records: Sequence[Any], record_type: type) -> None:
    """Writes dataclass instances to a JSONL file; the file appears complete or not at all."""
    header = {
        "schema": record_type.__name__,
        "schema_version": SCHEMA_VERSION,
        "records": len(records),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for line in (header, *map(asdict, records)):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_records(path: pathlib.Path, record_type: type[RecordT]) -> list[RecordT]:
    """Reads a file of `write_records`.

    Raises:
      ValueError: If the file holds another record type or schema version, has lost lines, or a
        record does not hash to its id.
    """
    with path.open(encoding="utf-8") as file:
        header = json.loads(file.readline() or "{}")
        lines = [json.loads(line) for line in file]
    expected = {
        "schema": record_type.__name__,
        "schema_version": SCHEMA_VERSION,
        "records": len(lines),
    }
    for name, value in expected.items():
        if header.get(name) != value:
            raise ValueError(
                f"{path}: header has {name}={header.get(name)!r}, expected {value!r}; "
                "write the file again with the corpus command."
            )
    return [_record(path, number, line, record_type) for number, line in enumerate(lines, start=2)]


def _record(
    path: pathlib.Path, number: int, line: dict[str, Any], record_type: type[RecordT]
) -> RecordT:
    hashes = [item.name for item in fields(cast(Any, record_type)) if not item.init]
    derived = {name: line.pop(name) for name in hashes}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in line.items()}
    record = record_type(**values)
    for name, value in derived.items():
        if getattr(record, name) != value:
            raise ValueError(
                f"{path}:{number} has {name}={value!r}, but its content gives "
                f"{getattr(record, name)!r}; the line was changed, write the file again."
            )
    return record
