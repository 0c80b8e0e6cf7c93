import pytest

from sentidistill_jax.evaluation.text_table import render_table

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


def test_another_format_is_named():
    with pytest.raises(ValueError, match="format='html', expected one of text, markdown, latex"):
        render_table(CELLS, "html")  # type: ignore[arg-type]
