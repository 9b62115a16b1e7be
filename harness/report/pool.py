"""The whole best-of-N curve from one pool of candidates, without bias.

With M candidates sorted by the selecting score, the i-th is the best of n drawn without
replacement with probability C(i-1, n-1) / C(M, n).  Hence E[max of n], and, with the same
weights, what another score (gold) of the selected candidate is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.report.statistics import Array, Contrast, Estimate, bootstrap, identity_seed


@dataclass(frozen=True)
class Pool:
    """The candidates of one prompt and turn.

    scores  [m], by which one is selected.
    gold    [m], the planted truth of each, or None where it is not known.
    """

    cluster: str
    scores: Array
    gold: Array | None = None


@dataclass(frozen=True)
class Curve:
    """Expected values of the selected candidate for n = 1, 2, ..., each with its interval."""

    selecting: tuple[Estimate, ...]
    gold: tuple[Estimate, ...] = ()


@cache
def selection_weights(m: int) -> Array:
    """Give [m, m]: row n-1 holds P(candidate i, in ascending order, is the best of n)."""
    weights = np.zeros((m, m))
    for n in range(1, m + 1):
        total = math.comb(m, n)
        for i in range(n, m + 1):
            weights[n - 1, i - 1] = math.comb(i - 1, n - 1) / total
    weights.flags.writeable = False
    return weights


def expected_max(scores: Array) -> Array:
    """Give E[max of n draws without replacement] for n = 1..m: [m] -> [m]."""
    return selection_weights(len(scores)) @ np.sort(scores)


def expected_of_selected(scores: Array, other: Array) -> Array:
    """Give the expected ``other`` of the candidate with the best score of n: [m], [m] -> [m].

    Candidates that tie on the score are equally likely to be taken.
    """
    order = np.argsort(scores, kind="stable")
    _, tied = np.unique(scores[order], return_inverse=True)
    level = np.bincount(tied, weights=other[order]) / np.bincount(tied)
    return selection_weights(len(scores)) @ level[tied]


def curve(pools: Sequence[Pool], *, resamples: int = 20_000) -> Curve:
    """Average over prompts up to the smallest pool, resampling clusters for the intervals."""
    if not pools:
        return Curve(())
    largest = min(len(pool.scores) for pool in pools)
    clusters = [pool.cluster for pool in pools]
    seed = identity_seed("pool", *sorted(clusters))
    best = np.stack([expected_max(pool.scores)[:largest] for pool in pools])
    contrasts = [Contrast(best[None, :, n]) for n in range(largest)]
    golds = [
        expected_of_selected(pool.scores, pool.gold)[:largest]
        for pool in pools
        if pool.gold is not None
    ]
    if len(golds) == len(pools):
        gold = np.stack(golds)
        contrasts += [Contrast(gold[None, :, n]) for n in range(largest)]
    estimates = tuple(bootstrap(contrasts, clusters, seed=seed, resamples=resamples))
    return Curve(estimates[:largest], estimates[largest:])
