"""What a checkpoint's own files say about generating with it, and how a setting overrides that."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

# Fields of generation_config.json that change greedy output and that the decoder does not know,
# with the value at which they do nothing.
_NEUTRAL: dict[str, Any] = {
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "min_length": 0,
    "min_new_tokens": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
}


@dataclasses.dataclass(frozen=True)
class GenerationSettings:
    """What besides the weights decides a greedy answer; each value says where it is from."""

    repetition_penalty: float
    repetition_penalty_from: str  # checkpoint, setting or default
    clean_up_spaces: bool
    clean_up_spaces_from: str
    stop_ids: tuple[int, ...]  # the tokenizer's end of text, and those of the checkpoint


def generation_settings(
    checkpoint: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    repetition_penalty: float | None = None,
    clean_up_spaces: bool | None = None,
) -> GenerationSettings:
    """What holds for a checkpoint.

    Args:
      checkpoint: Fields of its generation_config.json.
      tokenizer: Knows whether it cleans up spaces before punctuation when it decodes.
      repetition_penalty: Overrides the checkpoint's; None leaves it.
      clean_up_spaces: Overrides the tokenizer's; None leaves it.

    Raises:
      ValueError: If a penalty is not positive, or the checkpoint asks for something that greedy
        decoding here does not know.
    """
    unknown = {
        name: checkpoint[name]
        for name, neutral in _NEUTRAL.items()
        if checkpoint.get(name) not in (None, neutral)
    }
    if unknown:
        raise ValueError(
            f"the model's generation_config.json sets {unknown}, which greedy decoding here does"
            " not apply; remove that to evaluate without it."
        )
    penalty, penalty_from = _chosen(
        repetition_penalty, checkpoint.get("repetition_penalty"), default=1.0
    )
    clean_up, clean_up_from = _chosen(
        clean_up_spaces, tokenizer.clean_up_tokenization_spaces, default=False
    )
    if penalty <= 0:
        raise ValueError(f"repetition_penalty={penalty} must be above 0; 1 is none.")
    return GenerationSettings(
        repetition_penalty=float(penalty),
        repetition_penalty_from=penalty_from,
        clean_up_spaces=bool(clean_up),
        clean_up_spaces_from=clean_up_from,
        stop_ids=tuple(sorted(text_ends(checkpoint, tokenizer))),
    )


def text_ends(checkpoint: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end a text: the tokenizer's own, and those of a generation_config.json."""
    named = checkpoint.get("eos_token_id")
    ends: list[Any] = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return {int(end) for end in ends if end is not None}


def _chosen(setting: Any, checkpoint: Any, *, default: Any) -> tuple[Any, str]:
    if setting is not None:
        return setting, "setting"
    return (default, "default") if checkpoint is None else (checkpoint, "checkpoint")
