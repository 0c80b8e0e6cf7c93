"""Label words to token ids: what the argmax of a label task chooses between."""

from collections.abc import Callable, Sequence

from sentidistill_jax.evaluation.tasks import Task


def label_token_ids(task: Task, encode: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
    """Returns the first token of every label word, in index order.

    Args:
      task: A label task.
      encode: Tokenises a text without adding special tokens.

    Returns:
      One token id per label.

    Raises:
      ValueError: If two labels share their first token, as with tokenizers that emit a lone
        space piece; the argmax could not tell them apart.
    """
    ids = tuple(encode(word)[0] for word in task.label_words)
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"The label words {list(task.label_words)} of {task.name} start with the tokens "
            f"{list(ids)}, expected distinct ones; this tokenizer cannot score label tasks."
        )
    return ids
