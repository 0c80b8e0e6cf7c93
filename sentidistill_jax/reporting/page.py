"""The report as one HTML page that needs nothing else: no script, no font, no network.

Texts of data sets and answers of models are hostile input. Every expression of the templates is
escaped, and characters that a reader cannot see, or that reorder what surrounds them, are shown
by name.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from sentidistill_jax import __version__
from sentidistill_jax.reporting import views
from sentidistill_jax.reporting.compare import Comparison
from sentidistill_jax.reporting.runs import ModelScores, TrainingRun

# Controls but for tab and newlines, directional marks and overrides, lone surrogates, invisible
# spaces and non-characters. Joiners stay: emoji and several scripts are written with them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\uffff\ud800-\udfff]"
)


def visible(value: Any) -> Any:
    """Returns text with its unseen characters spelled out; other values as they are."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", value)


def render_page(
    models: Sequence[ModelScores],
    training: Sequence[TrainingRun],
    reference: ModelScores,
    comparisons: Mapping[tuple[str, str], Comparison],
) -> str:
    """Returns the page; the same inputs give the same text.

    Args:
      models: Evaluated models, in the order they are shown.
      training: Training runs with their metrics.
      reference: The model that the others were compared with.
      comparisons: See `compare`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentidistill_jax.reporting"),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        version=__version__,
        models=models,
        reference=reference,
        runs=list(dict.fromkeys(model.run for model in models)),
        charts=views.score_charts(models),
        groups=views.score_groups(models, comparisons),
        curves=views.training_curves(training),
        training=training,
        confusions=views.confusions(models),
        duels=views.duels(models, comparisons),
        provenance=views.provenance(models),
        notes=views.notes(models, training, reference, comparisons),
    )
