"""A trained student as a Hugging Face directory that other programs can serve."""

import pathlib
import shutil
from typing import Any

import jax

from sentidistill_jax.artifact import write_json
from sentidistill_jax.models.hf import write_hf_directory
from sentidistill_jax.models.load import LoadedModel

_SPECIAL, _TOKEN_ID = ("bos", "eos", "pad"), "_token_id"  # bos_token_id is a setting, and so on


def export(
    model: LoadedModel,
    directory: pathlib.Path,
    *,
    dtype: str = "float32",
    card: str | None = None,
) -> None:
    """Writes weights, config, tokenizer and generation config.

    The directory appears complete or not at all.

    Of several processes the first writes; all must call it, for each holds a part of the weights.

    Args:
      model: What to write.
      directory: Replaced if it is there.
      dtype: Of the weights: float32 or bfloat16.
      card: Text of README.md.

    Raises:
      ValueError: If `dtype` is neither.
    """
    temporary = directory.with_name(f".{directory.name}.partial")
    if jax.process_index() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    settings = generation_config(model)
    # None as well: readers of config.json take ids of their own for those that it leaves out.
    ids = {f"{name}{_TOKEN_ID}": settings.get(f"{name}{_TOKEN_ID}") for name in _SPECIAL}
    write_hf_directory(model.decoder, temporary, dtype=dtype, fields=ids)
    if jax.process_index() != 0:
        return
    model.tokenizer.save_pretrained(temporary)
    write_json(temporary / "generation_config.json", settings)
    if card is not None:
        (temporary / "README.md").write_text(card)
    if model.trimmed is not None:
        model.trimmed.save(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


def generation_config(model: LoadedModel) -> dict[str, Any]:
    """What the model's own generation_config.json said, with the ids of its present tokenizer."""
    kept = {name: value for name, value in model.generation.items() if not name.endswith(_TOKEN_ID)}
    ids = {
        f"{name}{_TOKEN_ID}": getattr(model.tokenizer, f"{name}{_TOKEN_ID}") for name in _SPECIAL
    }
    ends = model.generation.get("eos_token_id")
    if isinstance(ends, list):
        ids["eos_token_id"] = ends  # chat models end a turn and a text in different ways
    return kept | {name: value for name, value in ids.items() if value is not None}
