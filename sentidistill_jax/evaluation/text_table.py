"""Tables of texts, header first, for a terminal, for Markdown or for LaTeX."""

import html
import re
from collections.abc import Sequence
from typing import Literal, get_args

Format = Literal["text", "markdown", "latex"]
FORMATS: tuple[Format, ...] = get_args(Format)

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "_%&#${}"},
}


def render_table(cells: Sequence[Sequence[str]], format: Format) -> str:
    """Renders rows of equal length; the first column is left-aligned, the others right-aligned.

    Args:
      cells: Header and rows.
      format: `text` for a terminal, `markdown` as GitHub reads it, `latex` for booktabs.

    Returns:
      The table, without a newline at its end.

    Raises:
      ValueError: If there is no such format.
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r}, expected one of {', '.join(FORMATS)}.")
    lines = [[_visible(cell) for cell in row] for row in cells]
    if format == "text":
        return _text(lines)
    return _markdown(lines) if format == "markdown" else _latex(lines)


def _visible(cell: str) -> str:
    """A cell in one line; characters that a terminal would obey are replaced."""
    joined = " ".join(cell.split())
    return "".join(one if one.isprintable() else "\ufffd" for one in joined)


def _text(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _markdown(lines: list[list[str]]) -> str:
    head, *body = ([_markdown_cell(cell) for cell in line] for line in lines)
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def _markdown_cell(cell: str) -> str:
    """A cell that is no markup, link or column."""
    return html.escape(cell, quote=False).replace("](", "]&#40;").replace("|", r"\|")


def _latex(lines: list[list[str]]) -> str:
    head, *body = (
        " & ".join(re.sub(r"[\\~^±_%&#${}]", lambda match: _LATEX[match[0]], cell) for cell in line)
        + r" \\"
        for line in lines
    )
    begin = rf"\begin{{tabular}}{{l{'r' * (len(lines[0]) - 1)}}}"
    return "\n".join(
        [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    )
