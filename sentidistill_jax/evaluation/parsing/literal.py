"""Python literals out of text that a model wrote, without trusting it."""

import ast
import warnings

# An answer has at most 150 tokens, so 64 Ki characters allow 436 per token, more than any
# vocabulary holds. The limit keeps the worst inputs found (deep, wide, colliding hashes) below
# 0.3 s and 60 MB, and the C stack of the parser safe.
MAX_LITERAL_CHARS = 65_536


def clean(answer: str, *, drop_label: bool = False) -> str:
    """Removes code fences and all lines but the last from an answer.

    Args:
      answer: The extracted answer.
      drop_label: Also deletes every `Label:`, as the reference does for ATSA and ACSA only.

    Returns:
      The text that is read as a literal.
    """
    text = answer.replace("```python", "").replace("```", "").strip()
    text = text.replace("\n]", "]").replace("[\n", "[").rsplit("\n", 1)[-1]
    if drop_label:
        text = text.replace("Label:", "")
    return text.strip()


def close(text: str) -> str:
    """Repairs an unclosed answer: everything up to the last `)`, or all of it, plus `]`."""
    end = text.rfind(")")
    return (text if end < 0 else text[: end + 1]) + "]"


def read_literal(text: str) -> object:
    """Evaluates a Python literal; nothing is executed.

    Args:
      text: Any text.

    Returns:
      A str, bytes, number, bool, None, Ellipsis, or a list, tuple, set or dict of these.

    Raises:
      ValueError: If the text is not a literal or longer than MAX_LITERAL_CHARS.
    """
    if len(text) > MAX_LITERAL_CHARS:
        raise ValueError(
            f"The answer has {len(text)} characters, expected at most {MAX_LITERAL_CHARS}."
        )
    try:
        with warnings.catch_warnings():
            # An invalid escape such as "\d" only warns; under -W error it would not parse.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except Exception as error:
        # Besides SyntaxError and ValueError: MemoryError and RecursionError on deep nesting,
        # TypeError on unhashable set items, SystemError from the parser's own depth check.
        raise ValueError(f"The answer is not a Python literal ({type(error).__name__}).") from error
