"""The README.md of an exported student: what it is, how it came to be, what it scores."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sentidistill_jax import __version__
from sentidistill_jax.reporting.runs import ModelScores
from sentidistill_jax.reporting.tables import table

# Sections of a training run's made_from.json that a reader of a model card wants to see.
_SECTIONS = ("student", "lora", "objective", "optimizer", "data")


def model_card(
    name: str,
    *,
    parameters: int,
    fingerprint: str,
    made_from: Mapping[str, Any] | None,
    scores: Sequence[ModelScores],
) -> str:
    """Returns Markdown with the metadata header that the Hugging Face hub reads.

    Args:
      name: Name of the model.
      parameters: Number of its parameters.
      fingerprint: Hash of the weights that were exported.
      made_from: `made_from.json` of its training run; None for a model that was not trained here.
      scores: Evaluations of these very weights.
    """
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [sentiment-analysis, distillation]",
        "---",
        "",
        f"# {' '.join(html.escape(name).split())}",
        "",
        f"{parameters:,} parameters, exported by sentidistill_jax {__version__} from weights with"
        f" the hash `{fingerprint}`.",
        "",
        "A language model for sentiment analysis by few-shot prompts, distilled from a teacher's"
        " cached distributions (KnowDist and ICLDist, after arXiv:2503.03225)."
        if made_from
        else "Its training is not known here.",
        "",
        "## Scores",
        "",
        table(scores, "markdown") if scores else "None were measured for these weights.",
        "",
    ]
    if made_from:
        lines += ["## Training", "", "| setting | value |", "|---|---|"]
        for section in _SECTIONS:
            for field, value in made_from.get(section, {}).items():
                lines.append(f"| {section}.{field} | {_cell(value)} |")
        caches = made_from.get("caches", {})
        lines += [f"| cache of {stage} | {_cell(digest)} |" for stage, digest in caches.items()]
        lines += [f"| seed | {made_from.get('seed', '')} |", ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = json.dumps(value)
    return "`" + text.replace("|", "\\|").replace("`", "'").replace("\n", " ") + "`"
