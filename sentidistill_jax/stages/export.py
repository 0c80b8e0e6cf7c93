"""Stage `export`: a student in a form that others can serve, with its prompts and model card."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sentidistill_jax.corpus.records import read_records
from sentidistill_jax.corpus.sampling import draw_texts
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.export import export, export_classifier, export_gguf
from sentidistill_jax.inference.label_chat import with_label_chat
from sentidistill_jax.inference.label_prompts import (
    FILE,
    LabelPrompt,
    known_label_prompts,
    label_prompts_file,
    load_label_prompts,
)
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.tokens import label_ids
from sentidistill_jax.models.embedded import EMBEDDED
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.load import LoadedModel, load_model
from sentidistill_jax.reporting.model_card import GEMMA_NOTICE, Origin, model_card
from sentidistill_jax.reporting.runs import read_scores
from sentidistill_jax.settings import float_dtype
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import fit_offset
from sentidistill_jax.workdir import Workdir


def export_student(
    source: str,
    workdir: Workdir,
    output: pathlib.Path,
    *,
    dtype: str,
    form: str = "transformers",
    task: str = "sentiment",
    calibration_texts: int = 400,
) -> None:
    """Writes a model for other programs.

    A student that was trained here gets the prompts of its label tasks, with the offsets that take
    out its bias in those tasks that the teacher has labelled, and a chat template that asks `task`.
    Any other model stays what it is. The card shows the evaluations of the working directory whose
    weights are the exported ones.

    Args:
      source: `students/NAME`, or any model that can be loaded.
      workdir: Where the student was trained and evaluated.
      output: Does not exist.
      dtype: Dtype of the weights.
      form: A directory of the language model (transformers), one of a classifier, or a file (gguf).
      task: What the classifier, and the chat, answers.
      calibration_texts: Training texts that show the bias; 0: none, nothing is calibrated.

    Raises:
      ValueError: If `output` exists, or the model cannot be written so.
    """
    if output.exists():
        raise ValueError(f"output={str(output)!r} exists already; choose another or remove it.")
    if form != "gguf":
        float_dtype("dtype", dtype)
    path = workdir.model_source(source)
    stored = load_label_prompts(pathlib.Path(path))
    prompts = stored or known_label_prompts()
    if task not in prompts:
        raise ValueError(f"task={task!r} must be one of {sorted(prompts)}.")
    mesh = make_mesh({"data": -1})
    model = load_model(path, mesh)
    trained_here = (workdir.root / source / "made_from.json").is_file()
    labels: dict[str, int] = {}
    if trained_here or form == "classifier":
        tokens = label_ids(model.tokenizer, prompts[task].words).tolist()
        labels = dict(zip(prompts[task].labels, tokens, strict=True))
    if trained_here:
        prompts = _distinct(prompts, model)
        if calibration_texts and form == "transformers":  # other forms have no place for offsets
            local = LocalModel.on_mesh(model, mesh)
            prompts |= _calibrated(prompts, local, workdir, source, calibration_texts)
        model = with_label_chat(model, prompts, task)
    origin = _origin(workdir, source)
    snippet = task if trained_here or stored or form == "classifier" else ""
    files = {"README.md": _card(model, source, workdir, output.name, origin, snippet, form)}
    if origin.of_gemma:
        files["NOTICE"] = GEMMA_NOTICE
    if form == "classifier":
        parts = prompts[task].parts
        export_classifier(model, output, prompt=parts, labels=labels, dtype=dtype, files=files)
    elif form == "gguf":
        license = {"general.license": origin.license} if origin.license else {}
        export_gguf(model, output, dtype=dtype, about=license)
    else:
        if trained_here or stored:
            files[FILE] = label_prompts_file(prompts)
        export(model, output, dtype=dtype, files=files)


def _distinct(prompts: Mapping[str, LabelPrompt], model: LoadedModel) -> dict[str, LabelPrompt]:
    """The tasks whose label words the model's tokenizer tells apart by their first tokens."""

    def tells_apart(prompt: LabelPrompt) -> bool:
        try:
            return len(label_ids(model.tokenizer, prompt.words)) > 0
        except ValueError:
            return False

    return {name: prompt for name, prompt in prompts.items() if tells_apart(prompt)}


def _calibrated(
    prompts: Mapping[str, LabelPrompt],
    model: LocalModel,
    workdir: Workdir,
    source: str,
    num_texts: int,
) -> dict[str, LabelPrompt]:
    """The tasks that the teacher has labelled, with the offsets that take out a student's bias."""
    annotated, train = workdir.annotations / "made_from.json", workdir.texts / "train.jsonl"
    if not annotated.is_file() or not train.is_file():
        return {}
    settings = json.loads(annotated.read_text())["annotate"]
    seed = _made_from(workdir, source).get("seed", 0)
    pool = read_records(train, UnlabelledText)
    texts = draw_texts(pool, num_texts, key=f"calibrate/{seed}")  # those that `evaluate` takes
    calibrated = {}
    for name in sorted(prompts.keys() & settings["tasks"].keys()):
        prompt = prompts[name]
        shares = np.asarray(settings["priors"].get(name) or [1.0] * len(prompt.labels))
        asked = [prompt.about(text.text) for text in texts]
        scores = model.label_logprobs(asked, prompt.words, progress=f"calibrate {name}")
        offsets = fit_offset(scores, shares / shares.sum()).round(6).tolist()
        calibrated[name] = dataclasses.replace(prompt, offsets=tuple(offsets))
    return calibrated


def _made_from(workdir: Workdir, source: str) -> dict[str, Any]:
    """What a student was trained from; {} for a model that was not trained here."""
    file = workdir.root / source / "made_from.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _card(
    model: LoadedModel,
    source: str,
    workdir: Workdir,
    name: str,
    origin: Origin,
    task: str,
    form: str,
) -> str:
    """The model card, with the scores of the very weights, raw and calibrated."""
    evaluated = any(workdir.root.glob("evaluation/*/scores.json"))
    every = read_scores([workdir.root]) if evaluated else []
    of_weights = {
        one.scores["model"]
        for one in every
        if one.scores.get("provenance", {}).get("weights") == model.fingerprint
    }
    return model_card(
        name,
        parameters=num_parameters(model.decoder.config),
        fingerprint=model.fingerprint,
        made_from=_made_from(workdir, source) or None,
        scores=[
            one for one in every if one.scores["model"].removesuffix("-calibrated") in of_weights
        ],
        origin=origin,
        task=task,
        classifier=form == "classifier",
    )


def _origin(workdir: Workdir, source: str) -> Origin:
    """What the artifacts of a run say of a student's descent."""
    base = source
    while trained := _made_from(workdir, base):
        base = trained["student"]["source"]
    annotated, texts = (
        json.loads(file.read_text()) if file.is_file() else {}
        for file in (workdir.annotations / "made_from.json", workdir.texts / "manifest.json")
    )
    teacher = annotated.get("teacher", {})
    teacher = teacher.get("endpoint", {}).get("model") or teacher.get("source", "")
    return Origin(
        base=_hub_id(base),
        teacher=_hub_id(teacher),
        base_license=_license(base),
        texts=texts.get("counts", {}).get("train", {}),
    )


def _hub_id(model: str) -> str:
    return EMBEDDED[model].hub_id if model in EMBEDDED else model


def _license(base: str) -> str:
    """The licence that a model's own card names; "" if it does not."""
    if base in EMBEDDED:
        return EMBEDDED[base].license
    card = pathlib.Path(base) / "README.md"
    found = card.is_file() and re.search(r"^license: *(\S+)", card.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else ""
