"""Models in the forms that other programs read: directories of weights."""

from sentidistill_jax.export.classifier import export_classifier
from sentidistill_jax.export.directory import export

__all__ = ["export", "export_classifier"]
