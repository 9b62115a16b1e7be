"""AlpacaEval's numbers from its preferences: win rates, their standard error, wins and draws.

Li et al., AlpacaEval (2023).  A preference is 1 where the baseline's answer won, 2 where the
model's did, anything between by a judge that weighs both, 0 or 1.5 for a draw, and None where
the judge failed: that item then enters nowhere and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import PlumblineError
from harness.report.statistics import Array

DRAW = 1.5


@dataclass(frozen=True)
class HeadToHead:
    """One model against one baseline.

    win_rate           100 times the mean share of each item that went to the model.
    discrete_win_rate  the same with every verdict rounded to win, loss or draw.
    standard_error     of ``win_rate``, in points, items being independent.
    unjudged           items without a verdict, in no other number.
    """

    win_rate: float
    discrete_win_rate: float
    standard_error: float
    wins: int
    wins_base: int
    draws: int
    total: int
    unjudged: int


def head_to_head(preferences: Sequence[float | None]) -> HeadToHead:
    """Count preferences as AlpacaEval does.

    Raises PlumblineError for a preference that is none of 0, [1, 2] and None.
    """
    share = shares(preferences)
    seen = share[~np.isnan(share)]
    n = len(seen)
    wins, losses = int((seen > 0.5).sum()), int((seen < 0.5).sum())
    draws = n - wins - losses
    return HeadToHead(
        win_rate=100 * float(seen.mean()) if n else math.nan,
        discrete_win_rate=100 * (wins + draws / 2) / n if n else math.nan,
        standard_error=100 * float(seen.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
        wins=wins,
        wins_base=losses,
        draws=draws,
        total=n,
        unjudged=len(share) - n,
    )


def shares(preferences: Sequence[float | None]) -> Array:
    """Turn preferences into the model's share of each item, in [0, 1]; NaN where there is none."""
    values = np.array([math.nan if p is None else float(p) for p in preferences], dtype=float)
    values[values == 0] = DRAW
    wrong = np.flatnonzero(~np.isnan(values) & ((values < 1) | (values > 2)))
    if len(wrong):
        raise PlumblineError(
            f"preference {wrong[0] + 1} is {values[wrong[0]]:g}; it must be in [1, 2], "
            "0 for a draw, or null for no verdict"
        )
    return np.asarray(values - 1)
