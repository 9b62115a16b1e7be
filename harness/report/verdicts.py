"""Win rates: ties at half and strict, their interval, their paired test, their worst case."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness.report.statistics import LEVEL, Array


@dataclass(frozen=True)
class WinRate:
    """Verdicts counted.

    half    win rate with a tie (or two orders that disagree) worth a half.
    strict  wins over all verdicts: anything but a clear win is none.
    """

    wins: int
    ties: int
    losses: int
    half: float
    strict: float


def win_rate(values: Array) -> WinRate:
    """Count verdicts in [0, 1]; NaN is no verdict and enters nowhere."""
    seen = values[~np.isnan(values)]
    wins, losses = int((seen == 1).sum()), int((seen == 0).sum())
    n = len(seen)
    return WinRate(
        wins,
        n - wins - losses,
        losses,
        float(seen.mean()) if n else math.nan,
        wins / n if n else math.nan,
    )


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Give the 95 % interval of a proportion (Wilson 1927); NaN where n is 0."""
    if n == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, shrink = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    # At 0 and n the bound is exactly 0 or 1, which rounding would miss.
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == n else centre + half


def mcnemar(a: Array, b: Array) -> float:
    """Compare two columns of verdicts strictly: exact two-sided p over the discordant pairs.

    A pair with a missing verdict enters nowhere; without discordant pairs p is 1.
    """
    from scipy.special import bdtr

    both = ~(np.isnan(a) | np.isnan(b))
    first, second = a[both] == 1, b[both] == 1
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))


def worst_case(values: Array, least: float = 0.0, most: float = 1.0) -> tuple[float, float]:
    """Bound the mean whatever the missing values were: all ``least``, or all ``most``."""
    if len(values) == 0:
        return math.nan, math.nan
    missing = np.isnan(values)
    known = float(values[~missing].sum())
    count = int(missing.sum())
    return (known + count * least) / len(values), (known + count * most) / len(values)


@dataclass(frozen=True)
class Verdicts:
    """What a judge's verdicts say beyond their mean.

    strict      share of clear wins, with its Wilson interval.
    bound_*     the win rate whatever the missing verdicts were.
    mcnemar_p   clear wins against the reference's on the same answers, or, where the
                reference is what is compared with, against clear losses.
    """

    strict: float
    strict_low: float
    strict_high: float
    bound_low: float
    bound_high: float
    mcnemar_p: float


def verdicts(values: Array, reference: Array | None = None) -> Verdicts:
    """Summarise a column of verdicts, paired with the reference's where it has some."""
    rate = win_rate(values)
    low, high = wilson(rate.wins, rate.wins + rate.ties + rate.losses)
    p = mcnemar(values, 1.0 - values if reference is None else reference)
    return Verdicts(rate.strict, low, high, *worst_case(values), p)
