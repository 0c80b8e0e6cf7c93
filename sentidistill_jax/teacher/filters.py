"""Which of the teacher's own answers are worth learning; counted, never silently dropped."""

import re
from collections import Counter

# A phrase of at least six characters, three times in a row: greedy decoding caught in a loop.
_LOOP = re.compile(r"(.{6,}?)\1\1", re.DOTALL)
_WORD = re.compile(r"\w+")
# Small models apologise when they have lost the thread.
_REFUSALS = ("i'm sorry", "i am sorry", "i'm not sure", "i am not sure", "as an ai")


def reject_reason(text: str, answer: str, *, stopped: bool) -> str | None:
    """Why an answer should not be learnt, or None if it should.

    Args:
      text: What was asked about.
      answer: What the teacher wrote.
      stopped: Whether it ended by itself rather than at the length limit.

    Returns:
      One of `empty`, `cut_off`, `loop`, `refusal`, `copy`, or None.
    """
    words = Counter(word.lower() for word in _WORD.findall(answer))
    if sum(words.values()) < 3:
        return "empty"
    if _LOOP.search(answer):
        return "loop"
    if not stopped:
        return "cut_off"
    if answer.strip().lower().startswith(_REFUSALS):
        return "refusal"
    if words == Counter(word.lower() for word in _WORD.findall(text)):
        return "copy"
    return None
