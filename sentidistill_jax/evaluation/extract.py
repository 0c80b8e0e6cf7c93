"""From generated text to the answer of a fine-grained task."""

NEXT_EXAMPLE = "Sentence:"  # what a model that goes on and on writes after its answer


def extract_answer(generation: str, *, lenient: bool = False) -> str:
    """Cuts the answer out of the text a model generated after a prompt.

    Leading whitespace is skipped, newlines included; the answer ends at the next newline or at
    `Sentence:`; trailing whitespace goes. So an answer on the second line is read, but of a
    fenced or several-line answer only the first line is (docs/fidelity.md, Q7).

    Args:
      generation: The continuation alone, decoded without special tokens.
      lenient: Ends the answer at `Sentence:` only, so that all its lines are kept.

    Returns:
      The answer, possibly empty.
    """
    answer = generation.lstrip().split(NEXT_EXAMPLE, 1)[0]
    if not lenient:
        answer = answer.split("\n", 1)[0]
    return answer.rstrip()


def is_complete(generation: str) -> bool:
    """Whether nothing that may still follow a generation can change its official answer."""
    answer = generation.lstrip()
    return "\n" in answer or NEXT_EXAMPLE in answer
