"""Healing prompts: user texts as they stand, on which the teacher's distribution is learnt.

A student that was cut out of its teacher has lost language before it learns about sentiment. These
records give it back, and say nothing of sentiment that the texts do not: they are also the control
that tells what KnowDist teaches from what any text would repair.
"""

from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.user_texts import UnlabelledText

_BEGINNING = "Text:"  # something must stand before the first token that is predicted


def build_prompt(text: UnlabelledText) -> Prompt:
    """A text that the teacher reads rather than answers; both see nothing but it."""
    return Prompt(
        stage="healing",
        kind="text",
        text_id=text.id,
        prompt=_BEGINNING,
        teacher_prompt=_BEGINNING,
        answer=f" {text.text}",
    )
