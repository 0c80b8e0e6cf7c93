"""Reads the official scorer's vectors."""

import gzip
import json
import pathlib
from collections.abc import Iterator
from typing import Any


def read_vectors(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a JSON lines file, gzipped or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        yield from map(json.loads, lines)
