"""A trained student as a Hugging Face directory that other programs can serve."""

import pathlib
import shutil

import jax

from sentidistill_jax.models.hf import write_hf_directory
from sentidistill_jax.models.load import LoadedModel


def export(model: LoadedModel, directory: pathlib.Path, *, dtype: str = "float32") -> None:
    """Writes weights, config and tokenizer; the directory appears complete or not at all.

    Of several processes the first writes; all must call it, for each holds a part of the weights.

    Args:
      model: What to write.
      directory: Replaced if it is there.
      dtype: Of the weights: float32 or bfloat16.

    Raises:
      ValueError: If `dtype` is neither.
    """
    temporary = directory.with_name(f".{directory.name}.partial")
    if jax.process_index() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    write_hf_directory(model.decoder, temporary, dtype=dtype)
    if jax.process_index() != 0:
        return
    model.tokenizer.save_pretrained(temporary)
    if model.trimmed is not None:
        model.trimmed.save(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)
