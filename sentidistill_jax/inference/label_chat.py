"""A chat of a student: a message is a text, and the answer is its label.

`apply_chat_template` of such a student gives the very prompt that it was trained on. Earlier turns
are solved examples before it, and `task=` asks another task than the default one.
"""

import copy
import dataclasses
import json
from collections.abc import Mapping

from sentidistill_jax.inference.generation_settings import text_ends
from sentidistill_jax.inference.label_prompts import LabelPrompt
from sentidistill_jax.inference.tokens import encode, encode_prompt
from sentidistill_jax.models.load import LoadedModel

# Simple enough for every program that renders templates. A system message would not have been read
# in training and is left out.
_TEMPLATE = """\
{%- set prompts = PROMPTS -%}
{%- set prompt = prompts[task | default(DEFAULT)] -%}
BOS
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- prompt[0] + (message['content'] | trim) + prompt[1] -}}
{%- elif message['role'] == 'assistant' -%}
{{- ' ' + (message['content'] | trim) + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}"""


def with_label_chat(
    model: LoadedModel, prompts: Mapping[str, LabelPrompt], default: str
) -> LoadedModel:
    """The same model with a chat template of its prompts, whose answers end with their line.

    Args:
      model: A student, trained to end an answer with a newline; stays as it is.
      prompts: By task.
      default: Task that is asked where no other is named.
    """
    tokenizer = copy.deepcopy(model.tokenizer)
    begins = tokenizer.bos_token_id is not None and (
        encode_prompt(tokenizer, "a")[0] == tokenizer.bos_token_id
    )
    parts = {name: prompt.parts for name, prompt in prompts.items()}
    tokenizer.chat_template = (
        _TEMPLATE.replace("BOS", "{{- bos_token -}}" if begins else "")
        .replace("DEFAULT", json.dumps(default, ensure_ascii=False))
        .replace("PROMPTS", json.dumps(parts, ensure_ascii=False))
    )
    newline = int(encode(tokenizer, "\n")[-1])
    ends = [*sorted(text_ends(model.generation, tokenizer) - {newline}), newline]
    generation = {**model.generation, "eos_token_id": ends}
    return dataclasses.replace(model, tokenizer=tokenizer, generation=generation)
