"""ICLDist prompts: a task shown by demonstrations, in one of many styles."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sentidistill_jax.corpus.extraction_tasks import EXTRACTION_TASKS
from sentidistill_jax.corpus.general_tasks import GENERAL_TASKS
from sentidistill_jax.corpus.items import Items, describe_items, render_items
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.sentiment_tasks import LABEL_TASKS
from sentidistill_jax.corpus.task import Demonstration, OutputFormat, Task
from sentidistill_jax.corpus.user_texts import UnlabelledText

TASKS = {task.name: task for task in (*LABEL_TASKS, *EXTRACTION_TASKS, *GENERAL_TASKS)}


@dataclass(frozen=True)
class Style:
    """How a task is put and how the answer looks."""

    wording: int = 0  # index in `Task.wordings`
    verbalizer: int = 0  # index in `Task.verbalizers`
    format: OutputFormat = "plain"


# "Review: ...\nSentiment:": no instruction, the labels themselves. Evaluation and the teacher's own
# labelling use it, since a small model follows demonstrations better than descriptions.
MINIMAL = Style()


def build_prompt(
    task: str,
    text: UnlabelledText,
    demonstrations: Sequence[Demonstration],
    style: Style = MINIMAL,
    student_shots: int | None = None,
) -> Prompt:
    """Puts one text to the teacher as the last, unsolved example of a task.

    Args:
      task: A name in `TASKS`.
      text: The user text.
      demonstrations: What the teacher reads before the text, in this order.
      style: Wording, label words and output format.
      student_shots: How many of the demonstrations the student reads, counted from the last; all
        by default.

    Returns:
      The prompt; `answer` is set if the task computes the right answer for this text.

    Raises:
      ValueError: If the task asks about something that the text has not.
    """
    chosen = TASKS[task]
    subject = chosen.subject(text) if chosen.subject is not None else ""
    if subject is None:
        raise ValueError(
            f"task {task!r} needs a text with a {chosen.subject_name.lower()}, and none was found"
            f" in {text.text!r}; choose another text or task."
        )
    shots = len(demonstrations) if student_shots is None else student_shots
    question = _question(chosen, text.text, subject, style)
    prefix, words, suffix = _answer_parts(chosen, style)
    gold = chosen.gold(text) if chosen.gold is not None else None
    return Prompt(
        stage="icldist",
        kind=task,
        text_id=text.id,
        prompt=shared_prefix(task, demonstrations[len(demonstrations) - shots :], style) + question,
        teacher_prompt=shared_prefix(task, demonstrations, style) + question,
        label_words=words,
        answer_prefix=prefix,
        answer_suffix=suffix,
        wording=style.wording,
        format=style.format,
        answer=None if gold is None else render_answer(task, gold, style),
        max_new_tokens=chosen.max_new_tokens,
    )


def shared_prefix(task: str, demonstrations: Sequence[Demonstration], style: Style) -> str:
    """The part of a prompt before the text's own lines; a KV cache reads it once."""
    chosen = TASKS[task]
    solved = [
        _question(chosen, one.text, one.subject, style) + render_answer(task, one.label, style)
        for one in demonstrations
    ]
    return "".join(part + "\n\n" for part in (_header(chosen, style), *solved) if part)


def render_answer(task: str, label: str | Items, style: Style) -> str:
    """The completion, without its final newline, that gives `label`."""
    chosen = TASKS[task]
    if not isinstance(label, str):
        return f" {render_items(label, chosen.fields, style.format)}"
    parts = _answer_parts(chosen, style)
    if chosen.labels:
        word = parts.words[chosen.labels.index(label)]
    else:
        word = label if parts.prefix else f" {label}"
    return f"{parts.prefix}{word}{parts.suffix}"


def group_by_label(
    task: str, pool: Sequence[Demonstration]
) -> tuple[tuple[Demonstration, ...], ...]:
    """One group of demonstrations per label; a single group for a task of free text."""
    labels = TASKS[task].labels
    if not labels:
        return (tuple(pool),)
    return tuple(tuple(one for one in pool if one.label == label) for label in labels)


def draw_demonstrations(
    groups: Sequence[Sequence[Demonstration]], count: int, rng: random.Random
) -> tuple[Demonstration, ...]:
    """Draws demonstrations in random order, as evenly over the groups as their sizes allow.

    Args:
      groups: Candidates by label, in an order that does not change between runs.
      count: How many to draw; fewer come back if there are not so many.
      rng: Source of all randomness.
    """
    shuffled = [rng.sample(group, min(count, len(group))) for group in groups]
    rng.shuffle(shuffled)  # which labels get one more where the count is not divisible
    turns = max(map(len, shuffled))
    drawn = [group[turn] for turn in range(turns) for group in shuffled if turn < len(group)]
    drawn = drawn[:count]
    rng.shuffle(drawn)
    return tuple(drawn)


def seed_demonstrations(task: str, count: int, draw: int = 0) -> tuple[Demonstration, ...]:
    """Draws handwritten demonstrations; each `draw` number names one fixed choice and order.

    Raises:
      ValueError: If the task has fewer than `count` handwritten demonstrations.
    """
    chosen = TASKS[task]
    if count > len(chosen.seeds):
        raise ValueError(
            f"count={count} is more than the {len(chosen.seeds)} handwritten demonstrations of "
            f"task {task!r}; ask for fewer."
        )
    rng = random.Random(f"{task}/{draw}")
    return draw_demonstrations(group_by_label(task, chosen.seeds), count, rng)


class _AnswerParts(NamedTuple):
    prefix: str
    words: tuple[str, ...]
    suffix: str


def _answer_parts(task: Task, style: Style) -> _AnswerParts:
    words = task.verbalizers[style.verbalizer]
    key = _key(task)
    if task.fields:
        return _AnswerParts("", (), "")
    if style.format == "json":
        return _AnswerParts(f' {{"{key}": "', words, '"}')
    if style.format == "tuples":
        return _AnswerParts(f" [('{key}', '", words, "')]")
    if style.format == "dict":
        return _AnswerParts(f" {{'{key}': '", words, "'}")
    if style.format == "letter":
        return _AnswerParts("", tuple(f" {_letter(i)}" for i in range(len(words))), "")
    return _AnswerParts("", tuple(f" {word}" for word in words), "")


def _question(task: Task, text: str, subject: str, style: Style) -> str:
    wording = task.wordings[style.wording]
    lines = [f"{wording.text_name}: {text}"]
    if subject:
        lines.append(f"{task.subject_name}: {subject}")
    return "\n".join([*lines, f"{wording.label_name or task.label_name}:"])


def _header(task: Task, style: Style) -> str:
    """Instruction, and what the answer must look like where that is not plain."""
    words = task.verbalizers[style.verbalizer]
    instruction = task.wordings[style.wording].instruction
    if not instruction:
        return ""
    lines = [instruction.format(options=_joined(words))]
    if task.fields:
        lines.append(describe_items(task.fields, style.format))
    elif style.format == "letter":
        lines.append(" ".join(f"({_letter(i)}) {word}" for i, word in enumerate(words)))
    elif style.format == "json":
        lines.append(f'Answer as JSON: {{"{_key(task)}": "..."}}')
    elif style.format == "tuples":
        lines.append(f"Answer as a list of tuples: [('{_key(task)}', '...')]")
    elif style.format == "dict":
        lines.append(f"Answer as a dict: {{'{_key(task)}': '...'}}")
    return "\n".join(lines)


def _key(task: Task) -> str:
    return task.label_name.lower().replace(" ", "_")


def _letter(index: int) -> str:
    return "ABCDEFGH"[index]


def _joined(words: Sequence[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} or {words[-1]}"
