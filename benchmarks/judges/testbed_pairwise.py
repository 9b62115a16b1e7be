"""The testbed's own judge: a small model that writes one sentence about two answers."""

from __future__ import annotations

import re
from pathlib import Path

from harness.api import Pairwise, Verdict

_WINNER = re.compile(r"\bbetter answer is (A|B)\b")
_TIE = re.compile(r"\bbetter answer is neither\b")


def parse(text: str) -> Verdict | None:
    """Read a verdict; None where the text names no winner and no tie, or two winners."""
    winners = set(_WINNER.findall(text))
    if len(winners) == 1 and not _TIE.search(text):
        return "A" if winners == {"A"} else "B"
    return "tie" if _TIE.search(text) and not winners else None


JUDGE = Pairwise(
    template=Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"),
    parse=parse,
    about="testbed's own judge: prefers long answers and the first one a little",
    max_tokens=16,
)
