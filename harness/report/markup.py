"""A page of text and grids, written as Markdown, LaTeX or CSV; foreign text is escaped here.

Whatever a method, a plugin or a model wrote reaches a page as a plain string and is
escaped when the page is written, so no caller can forget to.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Style = Literal["plain", "bold", "code"]


@dataclass(frozen=True)
class Span:
    """A stretch of text in one style."""

    text: str
    style: Style = "plain"


Line = tuple[Span, ...]


@dataclass(frozen=True)
class Grid:
    """A table: its title, its header, and rows of equal length (the first column is text)."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]


@dataclass(frozen=True)
class Notes:
    """A titled list."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Picture:
    """A figure in a file beside the page."""

    title: str
    file: str


Block = Grid | Notes | Picture


@dataclass(frozen=True)
class Page:
    """What a table file says: one line about it, sentences, then grids, figures, notes."""

    lead: str
    title: str
    intro: tuple[Line, ...]
    blocks: tuple[Block, ...]


def shown(files: Sequence[Path]) -> list[Picture]:
    """Give the figures that a page can show, out of all that were drawn."""
    titles = {
        ".best_of_n.png": "what the best of n candidates is worth",
        ".categories.png": "by category",
        ".frontier.png": "reward against KL, with the frontier",
    }
    return [
        Picture(titles.get("".join(path.suffixes), "differences to unsteered"), path.name)
        for path in files
        if path.suffix == ".png"
    ]


def line(*parts: str | Span) -> Line:
    """Build a line from strings and styled spans."""
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def code(text: str) -> Span:
    """Mark a command or a name."""
    return Span(text, "code")


def bold(text: str) -> Span:
    """Mark what stands out."""
    return Span(text, "bold")


def quoted(text: str) -> Line:
    """Read `code` in a sentence of the protocol's; everything else in it is plain."""
    parts = re.split(r"`([^`]+)`", text)
    return tuple(code(part) if i % 2 else Span(part) for i, part in enumerate(parts) if part)


def plain(text: str) -> str:
    """Put text on one line: control characters and line breaks become a blank."""
    if text.isprintable() and "  " not in text:  # nearly all text: nothing to be put in order
        return text.strip()
    cleaned = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return re.sub(r" +", " ", cleaned).strip()


# ----------------------------------------------------------------- Markdown


def markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is, inside tables too."""
    text = re.sub(r"([\\`*|~])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # inside a word it is safe
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
    return re.sub(r"\](?=[(\[:])", r"\\]", text)


def _markdown_line(spans: Line) -> str:
    styles = {"plain": "{}", "bold": "**{}**", "code": "`{}`"}
    out = []
    for span in spans:
        if span.style == "code":
            text = span.text.replace("`", "'").replace("|", "\\|")
        else:
            text = markdown(span.text)
        out.append(styles[span.style].format(text))
    return plain("".join(out))


def to_markdown(page: Page) -> str:
    """Write a page in GitHub's Markdown, the grids padded so that the source reads too."""
    parts = [_markdown_line(quoted(page.lead)), f"# {markdown(plain(page.title))}"]
    parts += [_markdown_line(spans) for spans in page.intro]
    for block in page.blocks:
        if isinstance(block, Picture):
            parts.append(f"![{markdown(plain(block.title))}]({block.file})")
            continue
        parts.append(f"## {markdown(plain(block.title))}")
        if isinstance(block, Notes):
            parts.append("\n".join(f"- {_markdown_line(spans)}" for spans in block.lines))
            continue
        header = [markdown(plain(name)) for name in block.header]
        rows = [[_markdown_line(cell) for cell in row] for row in block.rows]
        widths = [max(3, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]
        rule = [
            ":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)
        ]
        grid = [_padded(header, widths), f"| {' | '.join(rule)} |"]
        parts.append("\n".join(grid + [_padded(row, widths) for row in rows]))
    return "\n\n".join(parts) + "\n"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    texts = [
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(texts)} |"


# -------------------------------------------------------------------- LaTeX

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\S{}",
    "∘": r"$\circ$",
    "↗": r"$\nearrow$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "◆": r"$\diamond$",
    "≈": r"$\approx$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "…": r"\dots{}",
} | {c: "\\" + c for c in "{}$&#_%"}


def latex(text: str) -> str:
    """Escape text so that LaTeX prints it as it is; the square bracket after a row end too."""
    return "".join(LATEX.get(c, c) for c in text)


def _latex_line(spans: Line) -> str:
    styles = {"plain": "%s", "bold": r"\textbf{%s}", "code": r"\texttt{%s}"}
    return plain("".join(styles[s.style] % latex(plain_keeping_ends(s.text)) for s in spans))


def plain_keeping_ends(text: str) -> str:
    """Clean a span but keep a blank at its ends, where it meets its neighbour."""
    cleaned = plain(text)
    head, tail = text[:1].isspace(), text[-1:].isspace()
    return f"{' ' * head}{cleaned}{' ' * tail}" if cleaned else " " * head


def to_latex(page: Page) -> str:
    """Write a page as LaTeX tables; they need the package booktabs."""
    out = [f"% {plain(page.lead)}", "% needs \\usepackage{booktabs,textcomp} and T1 fonts"]
    notes = [block for block in page.blocks if isinstance(block, Notes)]
    for block in page.blocks:
        if not isinstance(block, Grid):
            continue
        caption = [latex(plain(f"{page.title}. {block.title}.")), _latex_line(quoted(page.lead))]
        caption += [_latex_line(spans) for spans in page.intro]
        out += [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{' '.join(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(block.header) - 1)}}}",
            r"\toprule",
            " & ".join(latex(plain(name)) for name in block.header) + r" \\",
            r"\midrule",
            # the braces keep a cell that starts with "[" from being read as a row's spacing
            *("{}" + " & ".join(_latex_line(cell) for cell in row) + r" \\" for row in block.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    for block in notes:
        out += [rf"\paragraph{{{latex(plain(block.title))}}}", r"\begin{itemize}"]
        out += [rf"\item {{}}{_latex_line(spans)}" for spans in block.lines]
        out += [r"\end{itemize}"]
    return "\n".join(out) + "\n"


# ---------------------------------------------------------------------- CSV


def to_csv(records: Sequence[Mapping[str, object]]) -> str:
    """Write records with the union of their fields, in the order they first occur."""
    fields = list(dict.fromkeys(name for record in records for name in record))
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _field(value) for name, value in record.items()})
    return out.getvalue()


def _field(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else format(value + 0.0, ".6g")
    return plain(str(value))
