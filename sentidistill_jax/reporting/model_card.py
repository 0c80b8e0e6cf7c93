"""The README.md of an exported student: what it is, how to ask it, and what it scores."""

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sentidistill_jax import __version__
from sentidistill_jax.reporting.runs import ModelScores
from sentidistill_jax.reporting.tables import table

# Sections of a training run's made_from.json that a reader of a model card wants to see.
_SECTIONS = ("student", "lora", "objective", "optimizer", "data")

# What Gemma's terms of use ask of whoever passes on a model of its weights or outputs.
GEMMA_NOTICE = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at"
    " ai.google.dev/gemma/terms\n"
)

_LANGUAGE_MODEL = """\
```python
import json, torch, transformers

folder = "{name}"
task = json.load(open(f"{{folder}}/label_prompts.json"))["tasks"]["{task}"]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_pretrained(folder)
words = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in task["words"]]
prompt = task["prompt"].replace("{{text}}", "A quiet treasure.")
logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1, words]
shares = (logits + torch.tensor(task["offsets"] or 0.0)).softmax(-1)
print(dict(zip(task["labels"], shares.tolist())))
```

By the program that trained it, which takes files of texts as well (`--input`):

```
sentidistill predict --model={name} --task={task} --text="A quiet treasure."
```

Its chat template gives the same prompt, so that a server's answer to a message is the label."""

_CLASSIFIER = """\
```python
import transformers

classify = transformers.pipeline("text-classification", model="{name}", top_k=None)
print(classify("A quiet treasure."))
```

The tokenizer puts the prompt around a text. Its bias towards a label is not taken out."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a model comes from, as far as it is known."""

    base: str = ""  # model whose weights it started from
    teacher: str = ""
    base_license: str = ""  # as the Hugging Face hub calls it
    texts: Mapping[str, int] = dataclasses.field(default_factory=dict)  # training texts by source

    @property
    def of_gemma(self) -> bool:
        """Whether Gemma's terms apply: they go with its weights, and with what learns from it."""
        return "gemma" in f"{self.base_license} {self.base} {self.teacher}".lower()

    @property
    def license(self) -> str:
        """Of the model itself; "" if not known."""
        return "gemma" if self.of_gemma else self.base_license


def model_card(
    name: str,
    *,
    parameters: int,
    fingerprint: str,
    made_from: Mapping[str, Any] | None,
    scores: Sequence[ModelScores],
    origin: Origin = Origin(),
    task: str = "",
    classifier: bool = False,
) -> str:
    """Returns Markdown with the metadata header that the Hugging Face hub reads.

    Args:
      name: Name of the model, and of the folder that the snippet reads.
      parameters: Number of its parameters.
      fingerprint: Hash of the weights that were exported.
      made_from: `made_from.json` of its training run; None for a model that was not trained here.
      scores: Evaluations of these very weights.
      origin: Base model, teacher and texts.
      task: What the snippet asks; "": the model has no prompts and the card no snippet.
      classifier: Whether it is exported with a head for one task.
    """
    header = {
        "license": origin.license,
        "base_model": origin.base if origin.base.count("/") == 1 else "",
        "language": "en" if made_from else "",
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if classifier else "text-generation",
        "tags": "[sentiment-analysis, distillation]",
    }
    lines = [
        "---",
        *(f"{field}: {value}" for field, value in header.items() if value),
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
    ]
    if task:
        snippet = _CLASSIFIER if classifier else _LANGUAGE_MODEL
        lines += ["## Use", "", snippet.format(name=name, task=task), ""]
    lines += [
        "## Scores",
        "",
        table(scores, "markdown") if scores else "None were measured for these weights.",
        "",
    ]
    if scores:
        lines += ["F1 in percent, with 95 % intervals in brackets.", ""]
    if made_from:
        lines += [*_origin(origin), *_use_and_limits(), "## Training", ""]
        lines += ["| setting | value |", "|---|---|"]
        for section in _SECTIONS:
            for field, value in made_from.get(section, {}).items():
                lines.append(f"| {section}.{field} | {_cell(value)} |")
        caches = made_from.get("caches", {})
        lines += [f"| cache of {stage} | {_cell(digest)} |" for stage, digest in caches.items()]
        lines += [f"| seed | {made_from.get('seed', '')} |", ""]
    if origin.of_gemma:
        lines += ["## Notice", "", GEMMA_NOTICE]
    return "\n".join(lines)


def _origin(origin: Origin) -> list[str]:
    counts = ", ".join(f"{source} ({count:,})" for source, count in origin.texts.items())
    license = origin.base_license or "see that model's card"
    return [
        "## Where it comes from",
        "",
        f"- **Base model**: {origin.base or 'not known'}; licence: {license}",
        f"- **Teacher**: {origin.teacher or 'not known'}",
        f"- **Texts**, labelled by the teacher alone: {counts or 'not known'}",
        "- **Language**: the prompts are English",
        "",
    ]


def _use_and_limits() -> list[str]:
    return [
        "## Intended use and limits",
        "",
        "For opinions in short texts of the kinds named above: what share of many texts says what."
        " It repeats its teacher's errors and biases, sees irony and context less well than larger"
        " models, and is sure of itself where it should not be. A single label is no ground for a"
        " decision about a person. Texts of other kinds, lengths or languages need a measurement of"
        " their own before it is used on them.",
        "",
    ]


def _cell(value: Any) -> str:
    text = json.dumps(value)
    return "`" + text.replace("|", "\\|").replace("`", "'").replace("\n", " ") + "`"
