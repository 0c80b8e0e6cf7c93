"""What stage entry functions call their config."""

from typing import Any

# A locked ml_collections.ConfigDict with the fields of configs/base.py. Its attributes are made at
# run time, so a type checker can say nothing about them.
Config = Any
