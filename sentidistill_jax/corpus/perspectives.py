"""The KnowDist perspectives: what the teacher is asked about a user text.

Every perspective has several instruction wordings and four demonstrations, two on positive and two
on negative texts, so that they lean to neither side. All of it was written for this project and
nothing comes from a data set. To add a perspective, add a table to one of the files.
"""

import pathlib
import tomllib
from collections.abc import Iterator

from sentidistill_jax.corpus.perspective import Perspective, WorkedExample

_FILES = ("analyses.toml", "rewrites.toml")  # their order is that of draws


def _read(file: str) -> Iterator[Perspective]:
    tables = tomllib.loads(pathlib.Path(__file__).with_name(file).read_text("utf-8"))
    for name, fields in tables.items():
        wordings = tuple(fields.pop("wordings"))
        examples = tuple(WorkedExample(**example) for example in fields.pop("examples"))
        yield Perspective(name=name, wordings=wordings, examples=examples, **fields)


PERSPECTIVES = {perspective.name: perspective for file in _FILES for perspective in _read(file)}
