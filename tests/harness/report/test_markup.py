import csv
import io
import re

import pytest

from harness.report.markup import (
    Grid,
    Notes,
    Page,
    bold,
    code,
    latex,
    line,
    markdown,
    to_csv,
    to_latex,
    to_markdown,
)

NASTY = (
    "a|b <img> **x** `c` [t](u) \\end{table} 50% $x$ _i_ R&D &amp; ~t~ {n}\n| new row |\u202e\x00"
)


def page(cell):
    """Give a page with one foreign text everywhere."""
    grid = Grid("Grid", ("method", cell), ((line(cell), line("1")), (line("b"), line(bold(cell)))))
    return Page(cell, cell, (line(cell),), (grid, Notes("Notes", (line(code(cell), cell),))))


def cells(row):
    """Split a Markdown table row at its unescaped pipes."""
    return row.replace("\\\\", "").replace("\\|", "").strip().strip("|").split("|")


def test_foreign_text_cannot_break_a_markdown_table():
    """Pipes, line breaks, tags and emphasis in a name stay inside their cell."""
    text = to_markdown(page(NASTY))
    table = [row for row in text.splitlines() if row.startswith("|")]
    assert len(table) == 4
    assert all(len(cells(row)) == 2 for row in table)
    text = re.sub(r"`a.*?`", "", text)  # in a code span all of it is only text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(u\)", text)
    assert "\x00" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("name", ["best_of_n(n=8)", "prompting+best_of_n", "a-b.c", "x=1, y"])
def test_ordinary_names_stay_legible_in_markdown(name):
    """An underscore inside a word needs no escape."""
    assert markdown(name) == name


def test_foreign_text_cannot_break_latex():
    """Every special character is escaped, and every row has its two cells."""
    text = to_latex(page(NASTY))
    rows = [row for row in text.splitlines() if row.endswith(r"\\")]
    assert len(rows) == 3
    for row in rows:
        assert row.replace(r"\&", "").count("&") == 1
    body = [row for row in text.splitlines() if not row.startswith("%")]
    assert sum(r"\end{table}" in row for row in body) == 1
    assert sum(r"\begin{table}" in row for row in body) == 1


def test_latex_specials_by_hand():
    """Each special character has its own escape."""
    assert latex("#$%&_{}") == r"\#\$\%\&\_\{\}"
    assert latex("\\~^<>|") == (
        r"\textbackslash{}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"
    )
    assert latex("† ≤ 2×") == r"\textdagger{} $\le$ 2$\times$"


def test_a_latex_cell_may_start_with_a_bracket():
    """A row that starts with "[" is not taken for the spacing after the row before."""
    grid = Grid("g", ("a", "b"), ((line("[x]"), line("1")),))
    assert "{}[x] & 1" in to_latex(Page("l", "t", (), (grid,)))


def test_csv_keeps_every_field_and_blanks_what_is_missing():
    """Records of different fields share one header; NaN is blank; floats have six digits."""
    text = to_csv([{"a": 1.23456789, "b": float("nan")}, {"a": -0.0, "c": 'x,"y"\nz'}])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows == [{"a": "1.23457", "b": "", "c": ""}, {"a": "0", "b": "", "c": 'x,"y" z'}]


def test_the_markdown_source_is_aligned():
    """Every row of a grid has the same width in the source."""
    grid = Grid("g", ("method", "b"), ((line("long name"), line("1")), (line("x"), line("22222"))))
    rows = [r for r in to_markdown(Page("l", "t", (), (grid,))).splitlines() if r.startswith("|")]
    assert len({len(row) for row in rows}) == 1


def test_the_lead_keeps_its_code_spans():
    """What a protocol quotes in backticks stays quoted, in both formats."""
    lead = "Made on `testbed`: a small_model, 5% | real."
    page = Page(lead, "t", (), (Grid("g", ("a",), ((line("x"),),)),))
    assert to_markdown(page).splitlines()[0] == "Made on `testbed`: a small_model, 5% \\| real."
    assert r"Made on \texttt{testbed}: a small\_model, 5\% \textbar{} real." in to_latex(page)
