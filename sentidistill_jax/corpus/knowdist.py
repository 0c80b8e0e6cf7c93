"""KnowDist prompts: one user text seen from one perspective.

The teacher reads four demonstrations before the text, and may be told its own verdict on the text,
so that explanation and verdict agree. The student reads the instruction and the text alone: it
learns the teacher's answer without the help (context distillation).
"""

from sentidistill_jax.corpus.perspectives import PERSPECTIVES, Perspective, Verdict
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.user_texts import UnlabelledText


def build_prompt(
    perspective: str, text: UnlabelledText, wording: int = 0, verdict: Verdict | None = None
) -> Prompt:
    """Puts one text to the teacher from one perspective.

    Args:
      perspective: A name in `PERSPECTIVES`.
      text: The user text.
      wording: Index of the instruction wording.
      verdict: The teacher's own label for the text. It stands in the teacher's prompt only, where
        every demonstration then carries a verdict too.

    Returns:
      The prompt; its completion is free text up to a newline.
    """
    chosen = PERSPECTIVES[perspective]
    question = _question(chosen, text.text, verdict)
    return Prompt(
        stage="knowdist",
        kind=perspective,
        text_id=text.id,
        prompt=f"{chosen.wordings[wording]}\n\n{_question(chosen, text.text, None)}",
        # One wording for the teacher, whose cache then reads one beginning per perspective.
        teacher_prompt=shared_prefix(perspective, conditioned=verdict is not None) + question,
        wording=wording,
    )


def shared_prefix(perspective: str, *, conditioned: bool) -> str:
    """The start of all teacher prompts of a perspective; a KV cache reads it once."""
    chosen = PERSPECTIVES[perspective]
    examples = [
        f"{_question(chosen, one.text, one.verdict if conditioned else None)} {one.answer}"
        for one in chosen.examples
    ]
    return "\n\n".join([chosen.wordings[0], *examples]) + "\n\n"


def _question(perspective: Perspective, text: str, verdict: Verdict | None) -> str:
    lines = [f"Text: {text}"]
    if verdict is not None:
        lines.append(f"Sentiment: {verdict}")
    return "\n".join([*lines, f"{perspective.answer_name}:"])
