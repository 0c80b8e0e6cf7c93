import re

import pytest

from sentidistill_jax.evaluation.text_table import FORMATS, render_table

CELLS = [["run", "F1, %"], ["a|b_c", "50.0 ± 1.0"], ["two\nlines", r"{\x}"]]


def test_text_is_aligned():
    assert render_table(CELLS, "text").splitlines() == [
        "run             F1, %",
        "a|b_c      50.0 ± 1.0",
        "two lines        {\\x}",
    ]


def test_markdown_keeps_cells_apart():
    assert render_table(CELLS, "markdown").splitlines() == [
        "| run | F1, % |",
        "| --- | ---: |",
        r"| a\|b_c | 50.0 ± 1.0 |",
        r"| two lines | {\x} |",
    ]


def test_latex_escapes_what_it_would_read():
    assert render_table(CELLS, "latex").splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"run & F1, \% \\",
        r"\midrule",
        r"a|b\_c & 50.0 $\pm$ 1.0 \\",
        r"two lines & \{\textbackslash{}x\} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


HOSTILE = "<script>alert(1)</script>[x](javascript:y)\x1b[31m\u202e\x00\\input{/etc/passwd}$x$%"


@pytest.mark.parametrize("format", FORMATS)
def test_no_cell_is_markup_code_or_a_command_to_a_terminal(format):
    rendered = render_table([["run", "f1"], [HOSTILE, HOSTILE]], format)
    assert all(one.isprintable() for one in rendered.replace("\n", ""))
    assert len(rendered.splitlines()) == {"text": 2, "markdown": 3, "latex": 7}[format]
    if format == "markdown":
        assert "<" not in rendered and "](" not in rendered
    if format == "latex":
        assert r"\input" not in rendered and re.search(r"(?<!\\)[$%]", rendered) is None


def test_another_format_is_named():
    with pytest.raises(ValueError, match="format='html', expected one of text, markdown, latex"):
        render_table(CELLS, "html")  # type: ignore[arg-type]
