"""Verdicts counted: ties at half and strict, the paired test, the worst case; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from harness.report.statistics import (
    LEVEL,
    Array,
    Contrast,
    Estimate,
    bootstrap,
    cluster_sums,
    identity_seed,
    sign_flip_p,
)

Kind = Literal["won", "tied", "split", "lost"]
KINDS: tuple[Kind, ...] = ("won", "tied", "split", "lost")


def kind_of(value: float, orders: Sequence[float] = ()) -> Kind:
    """Say what a verdict in [0, 1] is: of both orders, only two that agree decide.

    orders  what each order said, where both were asked.  Without them a value above a half
            is a win (a judge that weighs its verdict gives anything between 0 and 1).
    """
    if len({(one > 0.5) - (one < 0.5) for one in orders}) > 1:
        return "split"
    if value == 0.5:
        return "tied"
    return "won" if value > 0.5 else "lost"


def wilson(successes: float, n: float) -> tuple[float, float]:
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


def strict_rate(won: Array, clusters: Sequence[str]) -> Estimate:
    """Give the share of clear wins: Wilson's interval, or the bootstrap's over clusters.

    won  1 or 0 for every verdict, NaN where there is none.
    """
    seen = ~np.isnan(won)
    groups = [c for c, there in zip(clusters, seen, strict=True) if there]
    if not groups:
        return Estimate(math.nan)
    if len(set(groups)) < len(groups):
        seed = identity_seed("strict", *sorted(set(groups)))
        return bootstrap([Contrast(won[seen][None])], groups, seed=seed)[0]
    wins, n = int(won[seen].sum()), len(groups)
    return Estimate(wins / n, *wilson(wins, n), n=n, clusters=n)


def mcnemar(a: Array, b: Array) -> float:
    """Compare two columns of 1 and 0: exact two-sided p over the discordant pairs.

    A pair with a missing verdict enters nowhere; without discordant pairs p is 1.
    McNemar, Psychometrika 12 (1947), in its exact binomial form.
    """
    from scipy.special import bdtr

    both = ~(np.isnan(a) | np.isnan(b))
    first, second = a[both] == 1, b[both] == 1
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))


def strict_test(a: Array, b: Array, clusters: Sequence[str]) -> tuple[float, str]:
    """Test strict verdicts of two rows; give p and the name of the test.

    McNemar's where every cluster holds one verdict, which it takes for independent;
    else signs are flipped by whole clusters, which is the same test where both apply.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    groups = np.asarray(clusters, dtype=str)[both]
    if not len(groups):
        return math.nan, ""
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) == len(groups):
        return mcnemar(a, b), "McNemar"
    sums = cluster_sums((a - b)[both], codes, len(names))[:, None]
    return float(sign_flip_p(sums, seed=identity_seed("flips", *names))[0]), "sign flips"


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
    """What a judge's verdicts on one row say beyond their mean.

    kinds    how many were won, tied, split (the two orders disagree: a half) and lost.
    strict   share of clear wins among the verdicts there are.
    bound_*  the win rate, ties and splits at a half, whatever the missing verdicts were.
    p, test  clear wins against clear losses, or against the reference's own clear wins
             where the reference was judged against the same third answers.
    """

    kinds: dict[Kind, int]
    strict: Estimate
    bound_low: float
    bound_high: float
    p: float
    test: str


def verdicts(
    values: Array,
    kinds: Sequence[Kind | None],
    clusters: Sequence[str],
    reference: Sequence[Kind | None] | None = None,
) -> Verdicts:
    """Summarise one row's verdicts.

    values     [n] in [0, 1], NaN where there is no verdict; kinds: None there.
    reference  the reference row's verdicts on the same answers, where it has its own.
    """
    won, lost = _indicator(kinds, "won"), _indicator(kinds, "lost")
    p, test = strict_test(
        won, lost if reference is None else _indicator(reference, "won"), clusters
    )
    counts = {kind: sum(k == kind for k in kinds) for kind in KINDS}
    return Verdicts(counts, strict_rate(won, clusters), *worst_case(values), p, test)


def _indicator(kinds: Sequence[Kind | None], which: Kind) -> Array:
    return np.array([math.nan if k is None else float(k == which) for k in kinds])
