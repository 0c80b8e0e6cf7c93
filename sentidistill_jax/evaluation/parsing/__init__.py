"""From the answer of a fine-grained task to the items that count as predictions."""

from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing.acsa import parse_acsa
from sentidistill_jax.evaluation.parsing.answer import ParsedAnswer, ParseStatus
from sentidistill_jax.evaluation.parsing.asqp import parse_asqp
from sentidistill_jax.evaluation.parsing.atsa import parse_atsa
from sentidistill_jax.evaluation.parsing.opener import OpenerAnswer, parse_opener
from sentidistill_jax.evaluation.tasks import Task

__all__ = ["OpenerAnswer", "ParseStatus", "ParsedAnswer", "parse_answer"]


def parse_answer(
    task: Task, answer: str, sentence: str, options: ScoringOptions = OFFICIAL
) -> ParsedAnswer:
    """Parses the answer of a fine-grained task; never raises on what a model wrote.

    Args:
      task: A fine-grained task.
      answer: The extracted answer.
      sentence: The test sentence.
      options: Deviations from the reference.

    Returns:
      The parsed answer, an `OpenerAnswer` for OpeNER.

    Raises:
      ValueError: If the task is a label task.
    """
    match task.name:
        case "absa/atsa_rest16":
            return parse_atsa(answer, sentence, options)
        case "absa/acsa_rest16":
            return parse_acsa(answer, options)
        case "absa/asqp_rest16":
            return parse_asqp(answer, options)
        case "absa/opener":
            return parse_opener(answer, sentence, options)
    raise ValueError(
        f"{task.name} is a label task: its prediction is an argmax over label words, "
        "there is no answer to parse."
    )
