"""A model and one of its label prompts as a classifier that `transformers.pipeline` loads.

The head of the classifier has the rows of the model's own head that belong to the label words, so
its logits are the model's logits of these words. The tokenizer puts the prompt around a text. This
is exact only where a text becomes the same tokens alone and within the prompt, which is so for
tokenizers that cut texts as GPT-2's did: anything else is refused.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import tokenizers
from flax import nnx
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sentidistill_jax.export.directory import replaced
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.families import HEAD, TensorNames
from sentidistill_jax.models.hf import write_hf_directory
from sentidistill_jax.models.load import LoadedModel

_DIGITS = {"type": "Digits", "individual_digits": True}
_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def export_classifier(
    model: LoadedModel,
    directory: pathlib.Path,
    *,
    prompt: tuple[str, str],
    labels: Mapping[str, int],
    dtype: str = "float32",
    files: Mapping[str, str] | None = None,
) -> None:
    """Writes a Hugging Face directory for sequence classification.

    Of several processes the first writes; all must call it.

    Args:
      model: What to write.
      directory: Replaced if it is there.
      prompt: What stands before a text, with a space at its end, and what stands behind it.
      labels: Label -> the token whose logit is the label's.
      dtype: Of the weights: float32 or bfloat16.
      files: Further files, name -> text.

    Raises:
      ValueError: If the logits or the tokens would not be those of the model.
    """
    if model.decoder.config.logit_softcap is not None:
        raise ValueError(
            f"logit_softcap={model.decoder.config.logit_softcap} of {model.source} bounds the"
            " logits, which a classifier of transformers does not; export it as a language model."
        )
    tokenizer = _within_prompt(model.tokenizer, *prompt)
    fields = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "pad_token_id": tokenizer.pad_token_id,
        "problem_type": "single_label_classification",
    }
    head = _with_head(model.decoder, list(labels.values()))
    with replaced(directory) as folder:
        write_hf_directory(head, folder, dtype=dtype, fields=fields)
        if jax.process_index() == 0:
            tokenizer.save_pretrained(folder)
            for name, text in (files or {}).items():
                (folder / name).write_text(text, "utf-8")


def _with_head(decoder: Decoder, tokens: Sequence[int]) -> Decoder:
    """The decoder with the rows of some tokens as its whole head; other arrays are shared."""
    config = decoder.config
    family = config.family
    prefix = "Gemma3Text" if family.model_type == "gemma3_text" else None
    prefix = prefix or family.architecture.removesuffix("ForCausalLM")
    family = dataclasses.replace(
        family,
        architecture=f"{prefix}ForSequenceClassification",
        names={**family.names, HEAD: TensorNames("score.weight", "")},
    )
    clone = nnx.merge(*nnx.split(decoder))
    clone.lm_head = nnx.Param(decoder.head_weight[jnp.asarray(tokens)])
    clone.config = dataclasses.replace(config, family=family, tie_embeddings=False)
    return clone


def _within_prompt(
    tokenizer: PreTrainedTokenizerBase, before: str, behind: str
) -> PreTrainedTokenizerFast:
    """A tokenizer whose special tokens around a text are the prompt's."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    found = state["pre_tokenizer"] or {}
    cuts = [
        {name: value for name, value in one.items() if name != "trim_offsets"}
        for one in found.get("pretokenizers", [found])
    ]
    if cuts not in ([_GPT2], [_DIGITS, _GPT2]):
        raise ValueError(
            "the tokenizer may join the end of a text with the prompt's next line, so that no"
            " classifier could read prompts as the model does; ask the language model itself, as"
            " its card shows."
        )
    # The space before a text belongs to its first word.
    space = [{"type": "Strip", "strip_left": True, "strip_right": True}]
    space.append({"type": "Prepend", "prepend": " "})
    own = [state["normalizer"]] if state["normalizer"] else []
    state["normalizer"] = {"type": "Sequence", "normalizers": [*own, *space]}
    ids: Any = tokenizer(before.removesuffix(" "))["input_ids"]
    specials = {
        "<before>": ids,
        "<behind>": tokenizer(behind, add_special_tokens=False)["input_ids"],
    }
    around = [{"SpecialToken": {"id": name, "type_id": 0}} for name in specials]
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [around[0], texts[0], around[1]],
        "pair": [around[0], *texts, around[1]],
        "special_tokens": {
            name: {"id": name, "ids": of, "tokens": tokenizer.convert_ids_to_tokens(of)}
            for name, of in specials.items()
        },
    }
    padding = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(state)),
        pad_token=padding,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
