"""Which of the teacher's own answers are worth learning; counted, never silently dropped."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from sentidistill_jax.corpus.cleaning import words
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.items import parse_items
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.task import Task

# A phrase of at least six characters, three times in a row: greedy decoding caught in a loop.
_LOOP = re.compile(r"(.{6,}?)\1\1", re.DOTALL)
# Small models apologise when they have lost the thread.
_REFUSALS = ("i'm sorry", "i am sorry", "i'm not sure", "i am not sure", "as an ai")
# Marks of turns and ends that were decoded as text.
_SPECIAL_TOKEN = re.compile(
    r"<\|[^|<>\s]+\|>|</?(?:s|bos|eos|pad|unk|think|(?:start|end)_of_turn)>|\[/?INST\]"
)
_END_MARK = re.compile(rf"(?:{_SPECIAL_TOKEN.pattern})\s*$")
_QUOTED = re.compile(r'"([^"]+)"|\u201c([^\u201d]+)\u201d')
_ELLIPSIS = re.compile(r"\.\.\.|\u2026")
_ARTICLES = {"a", "an", "the"}
_COPIED_WORDS = 4  # of a demonstration in a row


def reject_reason(prompt: Prompt, text: str, answer: str, *, stopped: bool) -> str | None:
    """Why an answer in the teacher's own words should not be learnt, or None if it should.

    Args:
      prompt: What the teacher read.
      text: The user text in it.
      answer: What the teacher wrote.
      stopped: Whether it ended by itself rather than at the length limit.

    Returns:
      None, or one of
      - `special_token`: it holds the mark of a turn or of the text's end;
      - `empty`: it has hardly any words;
      - `loop`: it repeats itself;
      - `cut_off`: it reached the length limit;
      - `refusal`: it is an apology;
      - `copy`: it is the text itself, apart from articles and the order of words;
      - `malformed`: it is not a list of the task's tuples in the format asked for;
      - `misquote`: it quotes or extracts words that the text does not hold;
      - `demonstration`: it repeats a phrase of a demonstration instead of speaking of the text.
    """
    said = words(answer)
    task = TASKS.get(prompt.kind)
    if _SPECIAL_TOKEN.search(answer):
        return "special_token"
    if len(said) < _least_words(task):
        return "empty"
    if _LOOP.search(answer):
        return "loop"
    if not stopped:
        return "cut_off"
    if answer.strip().lower().startswith(_REFUSALS):
        return "refusal"
    if _without_articles(said) == _without_articles(words(text)):
        return "copy"
    if task is not None and task.fields:
        return _extraction_fault(task, prompt.format, text, answer)
    # Rewritten texts may let somebody speak.
    if prompt.kind.startswith("analyse/") and not all(_holds(text, q) for q in _quotes(answer)):
        return "misquote"
    if _copies_demonstration(prompt, text, said):
        return "demonstration"
    return None


def rewrite_agrees(
    perspective: str, before_logprobs: Sequence[float], after_logprobs: Sequence[float]
) -> bool:
    """Whether a rewritten text has the sentiment that was asked for, by the teacher's own scores.

    Args:
      perspective: A name in `PERSPECTIVES`. An analysis has no sentiment of its own and agrees.
      before_logprobs: The teacher's calibrated logprobs of the user text over the labels of a
        sentiment task, which run from one pole to the other: positive, (neutral,) negative.
      after_logprobs: Those of the rewritten text, scored by the same prompt and calibration.

    Returns:
      True if the likeliest label is the same or, where the perspective turns the sentiment, lies
      opposite. The opposite of neutral is neutral.

    Raises:
      ValueError: If the two have different numbers of labels.
    """
    if len(before_logprobs) != len(after_logprobs):
        raise ValueError(
            f"{len(before_logprobs)} labels before and {len(after_logprobs)} after rewriting;"
            " score both in one task."
        )
    wanted = PERSPECTIVES[perspective].sentiment
    if wanted is None:
        return True
    before, after = _likeliest(before_logprobs), _likeliest(after_logprobs)
    return after == (before if wanted == "same" else len(before_logprobs) - 1 - before)


def without_end_marks(answer: str) -> str:
    """An answer without the marks of turns or ends that it ends with."""
    while (kept := _END_MARK.sub("", answer)) != answer:
        answer = kept
    return answer


def _least_words(task: Task | None) -> int:
    if task is None:
        return 3  # a perspective
    return 0 if task.fields else 1  # an empty list is an answer, and so is a topic of one word


def _without_articles(said: Iterable[str]) -> Counter[str]:
    return Counter(word for word in said if word not in _ARTICLES)


def _extraction_fault(task: Task, format: str, text: str, answer: str) -> str | None:
    items = parse_items(answer, task.fields, format)
    if items is None:
        return "malformed"
    quoted = (
        value
        for item in items
        for value, field in zip(item, task.fields, strict=True)
        if field.quoted
    )
    return None if all(_holds(text, value) for value in quoted) else "misquote"


def _quotes(answer: str) -> list[str]:
    """What stands between double quotation marks, in pieces where an ellipsis parts it."""
    quotes = (match[1] or match[2] for match in _QUOTED.finditer(answer))
    return [piece for quote in quotes for piece in _ELLIPSIS.split(quote)]


def _holds(text: str, phrase: str) -> bool:
    """Whether the words of a phrase stand in the text in a row."""
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def _copies_demonstration(prompt: Prompt, text: str, said: list[str]) -> bool:
    """Whether four words in a row come from one demonstration and not from the text.

    At least two of them must occur in no other demonstration: what answers share is their manner
    ("The writer is pleased because"), and a single word may fit by chance.
    """
    parts = prompt.teacher_prompt.split("\n\n")
    has_instruction = prompt.stage == "knowdist" or prompt.wording > 0
    shown = [words(part) for part in parts[int(has_instruction) : -1]]
    in_demonstrations = Counter(word for demonstration in shown for word in set(demonstration))
    copied = set().union(*map(_phrases, shown)) & _phrases(said) - _phrases(words(text))
    return any(sum(in_demonstrations[word] == 1 for word in phrase) >= 2 for phrase in copied)


def _phrases(found: list[str]) -> set[tuple[str, ...]]:
    starts = range(len(found) - _COPIED_WORDS + 1)
    return {tuple(found[start : start + _COPIED_WORDS]) for start in starts}


def _likeliest(logprobs: Sequence[float]) -> int:
    return max(range(len(logprobs)), key=logprobs.__getitem__)
