"""A model that says one sentence, so that a filter keeps what it says."""

import dataclasses
from typing import Any

import jax
import numpy as np
from helpers import TINY, byte_tokenizer, decoder_of, random_weights

from sentidistill_jax.models.load import LoadedModel
from sentidistill_jax.sharding import make_mesh

WORDS = ("a", "warm", "and", "witty", "film")  # one token each


END = "<|im_end|>"
CHAT = (
    "{% for message in messages %}{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def reciting_model(
    after: str,
    says: str = "".join(f" {word}" for word in WORDS) + "\n",
    *,
    mixed: float = 0.0,
    **changes: Any,
) -> LoadedModel:
    """A model that goes on with `says` wherever a text ends with `after`; no token occurs twice.

    It has a chat template, which ends with a colon and whose turns end with END.

    Args:
      after: The last token before what it says.
      says: What it says.
      mixed: Share of what its layers add: where there is some, its scores of labels depend on all
        of a text. With much of it, it says something else.
      changes: Fields of the config.
    """
    tokenizer = byte_tokenizer([*WORDS, "positive", "negative"])
    tokenizer.add_special_tokens({"additional_special_tokens": [END]})
    tokenizer.chat_template = CHAT
    config = dataclasses.replace(TINY, tie_embeddings=False, **changes)
    weights = random_weights(config)
    for name in weights:  # without layers the last token alone decides
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] *= mixed
    embedding = weights["model.embed_tokens.weight"]
    chain = tokenizer(after + says)["input_ids"]
    assert len(set(chain)) == len(chain)
    weights["lm_head.weight"] = np.zeros_like(embedding)
    if mixed:
        labels = tokenizer(" positive negative")["input_ids"]
        weights["lm_head.weight"][labels] = embedding[labels]
    weights["lm_head.weight"][chain[1:]] = embedding[chain[:-1]]
    mesh = make_mesh({}, jax.devices()[:1])
    return LoadedModel(decoder_of(mesh, config, weights), tokenizer, "reciting", "reciting")
