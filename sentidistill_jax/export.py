"""A trained student as a Hugging Face directory that other programs can serve."""

import pathlib
import shutil

from sentidistill_jax.models.hf import write_hf_directory
from sentidistill_jax.models.load import LoadedModel


def export(model: LoadedModel, directory: pathlib.Path, *, dtype: str = "float32") -> None:
    """Writes weights, config and tokenizer; the directory appears complete or not at all.

    Args:
      model: What to write.
      directory: Replaced if it is there.
      dtype: Of the weights: float32 or bfloat16.

    Raises:
      ValueError: If `dtype` is neither.
    """
    temporary = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    write_hf_directory(model.decoder, temporary, dtype=dtype)
    model.tokenizer.save_pretrained(temporary)
    if model.trimmed is not None:
        model.trimmed.save(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)
