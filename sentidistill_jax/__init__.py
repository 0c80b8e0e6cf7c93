"""Targeted distillation of sentiment ability into compact Flax students."""

__version__ = "0.1.0"
