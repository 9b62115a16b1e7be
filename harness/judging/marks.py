"""Reading what judges are asked to write: two marks on a line, a grade or a label in brackets."""

from __future__ import annotations

import re
from collections.abc import Collection

from harness.contracts.judges import Ruling
from harness.judging import fastchat

LEAST, MOST = 1.0, 10.0
LONGEST_LINE = 40  # characters beside which a line of marks is a sentence with numbers in it
_OUT_OF = re.compile(r"\s*/\s*10\b")
_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w])")
_LABEL = re.compile(r"\[\[\s*([^\[\]]+?)\s*\]\]")


def marks(text: str) -> Ruling | None:
    """Read two marks from 1 to 10 off the first line that is not empty; the higher wins.

    None where that line holds anything but two such marks.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    if len(first.strip()) > LONGEST_LINE:
        return None
    found = [float(n) for n in _NUMBER.findall(_OUT_OF.sub("", first))]
    if len(found) != 2 or not all(LEAST <= mark <= MOST for mark in found):
        return None
    a, b = found
    return Ruling(0.5 if a == b else float(b > a), (a, b))


def grade(text: str) -> float | None:
    """Read a grade from 1 to 10 in double brackets, as FastChat does; None for any other."""
    found = fastchat.rating(text)
    return found if found is not None and LEAST <= found <= MOST else None


def labelled(text: str, labels: Collection[str]) -> str | None:
    """Read the label in double brackets; None where there is none, or more than one kind.

    Case, blanks, hyphens and underscores make no difference.
    """
    known = {_plain(label): label for label in labels}
    found = {_plain(said) for said in _LABEL.findall(text)}
    return known.get(found.pop()) if len(found) == 1 else None


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label.strip().lower())
