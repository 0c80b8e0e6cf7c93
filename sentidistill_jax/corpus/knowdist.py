"""KnowDist prompts: one user text seen from one perspective.

A small teacher reads four demonstrations before the text (`few_shot`); a strong one is asked by the
instruction alone, as a user would, and may answer at length (`chat`). Either may be told its own
verdict on the text, so that explanation and verdict agree. The student reads the same instruction
and the text alone: it learns the teacher's answer without the help (context distillation).
"""

from typing import Literal, get_args

from sentidistill_jax.corpus.perspective import Perspective, Verdict
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.user_texts import UnlabelledText

PromptStyle = Literal["few_shot", "chat"]


def build_prompt(
    perspective: str,
    text: UnlabelledText,
    wording: int = 0,
    verdict: Verdict | None = None,
    style: PromptStyle = "few_shot",
) -> Prompt:
    """Puts one text to the teacher from one perspective.

    Args:
      perspective: A name in `PERSPECTIVES`.
      text: The user text.
      wording: Index of the instruction wording, which teacher and student both read.
      verdict: The teacher's own label for the text. It stands in the teacher's prompt only, where
        every demonstration then carries a verdict too.
      style: Whether the teacher reads demonstrations or is asked in a chat.

    Returns:
      The prompt. Its completion stands on the line of the answer's name or, in a chat, on the lines
      below it, since a chat's answers begin without a space.

    Raises:
      ValueError: If the style is not known.
    """
    chosen = PERSPECTIVES[perspective]
    instruction = chosen.wordings[wording]
    student_prompt = f"{instruction}\n\n{_given(text.text, None)}\n{chosen.answer_name}:"
    given = _given(text.text, verdict)
    if style == "chat":
        return Prompt(
            stage="knowdist",
            kind=perspective,
            text_id=text.id,
            prompt=f"{student_prompt}\n",
            teacher_prompt=f"{instruction} Write nothing but the answer.\n\n{given}",
            wording=wording,
            chat=True,
            multi_line=chosen.multi_line,
            # The budgets are those of answers in the manner of the demonstrations.
            max_new_tokens=0 if chosen.multi_line else chosen.max_new_tokens,
        )
    if style == "few_shot":
        prefix = shared_prefix(perspective, wording, conditioned=verdict is not None)
        return Prompt(
            stage="knowdist",
            kind=perspective,
            text_id=text.id,
            prompt=student_prompt,
            teacher_prompt=f"{prefix}{given}\n{chosen.answer_name}:",
            wording=wording,
            max_new_tokens=chosen.max_new_tokens,
        )
    raise ValueError(f"style={style!r} must be one of {get_args(PromptStyle)}.")


def shared_prefix(perspective: str, wording: int, *, conditioned: bool) -> str:
    """The start of all few-shot prompts of one wording; a KV cache reads it once."""
    chosen = PERSPECTIVES[perspective]
    return "\n\n".join([chosen.wordings[wording], *_solved(chosen, conditioned)]) + "\n\n"


def _solved(perspective: Perspective, conditioned: bool) -> list[str]:
    return [
        f"{_given(one.text, one.verdict if conditioned else None)}\n"
        f"{perspective.answer_name}: {one.answer}"
        for one in perspective.examples
    ]


def _given(text: str, verdict: Verdict | None) -> str:
    return f"Text: {text}" + (f"\nSentiment: {verdict}" if verdict else "")
