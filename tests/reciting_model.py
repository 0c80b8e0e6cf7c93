"""A model that says one sentence, so that a filter keeps what it says."""

import dataclasses

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
    after: str, says: str = "".join(f" {word}" for word in WORDS) + "\n"
) -> LoadedModel:
    """A model that goes on with `says` wherever a text ends with `after`; no token occurs twice.

    It has a chat template, which ends with a colon and whose turns end with END.
    """
    tokenizer = byte_tokenizer([*WORDS, "positive", "negative"])
    tokenizer.add_special_tokens({"additional_special_tokens": [END]})
    tokenizer.chat_template = CHAT
    config = dataclasses.replace(TINY, tie_embeddings=False)
    weights = random_weights(config)
    for name in weights:  # without layers the last token alone decides
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] *= 0
    embedding = weights["model.embed_tokens.weight"]
    chain = tokenizer(after + says)["input_ids"]
    assert len(set(chain)) == len(chain)
    weights["lm_head.weight"] = np.zeros_like(embedding)
    weights["lm_head.weight"][chain[1:]] = embedding[chain[:-1]]
    mesh = make_mesh({}, jax.devices()[:1])
    return LoadedModel(decoder_of(mesh, config, weights), tokenizer, "reciting", "reciting")
