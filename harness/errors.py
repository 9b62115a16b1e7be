"""The one exception a user is meant to see: a single line, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PlumblineError(Exception):
    """Says in one line what was wrong, where, and what is accepted."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> PlumblineError:
    """Build the error for a name that does not exist, with the nearest one suggested."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listing = ", ".join(known) if known else "none"
    return PlumblineError(f"unknown {kind} {name!r}.{hint} Known: {listing}")
