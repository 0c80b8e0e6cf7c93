"""A model as a Hugging Face directory that other programs can serve."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from sentidistill_jax.artifact import write_json
from sentidistill_jax.models.hf import write_hf_directory
from sentidistill_jax.models.load import LoadedModel

_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def export(
    model: LoadedModel,
    directory: pathlib.Path,
    *,
    dtype: str = "float32",
    files: Mapping[str, str] | None = None,
) -> None:
    """Writes weights, config, tokenizer and generation config.

    The directory appears complete or not at all.

    Of several processes the first writes; all must call it, for each holds a part of the weights.

    Args:
      model: What to write.
      directory: Replaced if it is there.
      dtype: Of the weights: float32 or bfloat16.
      files: Further files, name -> text.

    Raises:
      ValueError: If `dtype` is neither.
    """
    generation = generation_config(model)
    # None as well: readers of config.json take ids of their own for those that it leaves out.
    ids = {name: generation.get(name) for name in _SPECIAL_IDS}
    with replaced(directory) as folder:
        write_hf_directory(model.decoder, folder, dtype=dtype, fields=ids)
        if jax.process_index() != 0:
            return
        model.tokenizer.save_pretrained(folder)
        write_json(folder / "generation_config.json", generation)
        for name, text in (files or {}).items():
            (folder / name).write_text(text, "utf-8")
        if model.trimmed is not None:
            model.trimmed.save(folder)


@contextlib.contextmanager
def replaced(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to fill, which takes the place of a directory once it is whole.

    Process 0 alone makes it, and lets others read it: some writers make files for their owner only.
    """
    temporary = directory.with_name(f".{directory.name}.partial")
    writes = jax.process_index() == 0
    if writes:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        if writes:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    if writes:
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(directory, ignore_errors=True)
        temporary.rename(directory)


def generation_config(model: LoadedModel) -> dict[str, Any]:
    """What the model's own generation_config.json said, with the ids of its present tokenizer."""
    kept = {
        name: value for name, value in model.generation.items() if not name.endswith("_token_id")
    }
    ids = {name: getattr(model.tokenizer, name) for name in _SPECIAL_IDS}
    ends = model.generation.get("eos_token_id")
    if isinstance(ends, list):
        ids["eos_token_id"] = ends  # chat models end a turn and a text in different ways
    return kept | {name: value for name, value in ids.items() if value is not None}
