"""Models in the forms that other programs read: directories of weights, and GGUF files."""

from sentidistill_jax.export.classifier import export_classifier
from sentidistill_jax.export.directory import export
from sentidistill_jax.export.gguf_file import export_gguf

__all__ = ["export", "export_classifier", "export_gguf"]
