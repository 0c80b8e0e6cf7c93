"""Stage `export`: a student to a directory that others can serve, with its model card."""

import json
import pathlib

from sentidistill_jax.export import export
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.load import load_model
from sentidistill_jax.reporting.model_card import model_card
from sentidistill_jax.reporting.runs import read_scores
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.workdir import Workdir


def export_student(source: str, workdir: Workdir, output: pathlib.Path, *, dtype: str) -> None:
    """Writes a Hugging Face directory.

    The card shows the evaluations of the working directory whose weights are the exported ones.

    Args:
      source: `students/NAME`, or any model that can be loaded.
      workdir: Where the student was trained and evaluated.
      output: A directory that does not exist.
      dtype: Dtype of the weights: float32 or bfloat16.

    Raises:
      ValueError: If `output` exists.
    """
    if output.exists():
        raise ValueError(f"output={str(output)!r} exists already; choose another or remove it.")
    model = load_model(workdir.model_source(source), make_mesh({"data": -1}))
    made_from = workdir.root / source / "made_from.json"
    evaluated = any(workdir.root.glob("evaluation/*/scores.json"))
    card = model_card(
        output.name,
        parameters=num_parameters(model.decoder.config),
        fingerprint=model.fingerprint,
        made_from=json.loads(made_from.read_text()) if made_from.is_file() else None,
        scores=[
            one
            for one in (read_scores([workdir.root]) if evaluated else [])
            if one.scores.get("provenance", {}).get("weights") == model.fingerprint
        ],
    )
    export(model, output, dtype=dtype, card=card)
