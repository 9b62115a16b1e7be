"""A page on disk: Markdown to read, CSV with every number, LaTeX for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.conduct import store
from harness.report.markup import Page, to_csv, to_latex, to_markdown


def write_page(stem: Path, page: Page, records: Sequence[dict[str, object]]) -> list[Path]:
    """Write ``stem.md``, ``.csv`` and ``.tex``; give the paths, the Markdown first."""
    texts = {".md": to_markdown(page), ".csv": to_csv(records), ".tex": to_latex(page)}
    paths = []
    for suffix, text in texts.items():
        path = stem.with_name(stem.name + suffix)
        store.write_text(path, text)
        paths.append(path)
    return paths
