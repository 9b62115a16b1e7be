"""Clusters drawn with replacement: the draws of a seed are made once, however often they serve.

The draws depend on the seed and the number of clusters alone, and a seed is derived from the
names of the clusters: so all rows over the same items share one set of draws, and what is left
to compute for another row is a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.unsignedinteger]

RESAMPLES = 20_000
CHUNK = 1_000  # resamples held at once as floats
KEPT = 16_000_000  # counts of one seed that are kept: 16 MB, up to 255 clusters


def resampled_sums(columns: Array, *, seed: int, resamples: int = RESAMPLES) -> Array:
    """Sum each column over clusters drawn with replacement: [clusters, k] -> [resamples, k].

    The result is laid out by columns: one column of it is one piece of memory.
    """
    out = np.empty((columns.shape[1], resamples))
    start = 0
    for drawn in _counts(len(columns), seed, resamples):
        out[:, start : start + len(drawn)] = (drawn.astype(np.float64) @ columns).T
        start += len(drawn)
    return out.T


def _counts(clusters: int, seed: int, resamples: int) -> Iterator[Counts] | tuple[Counts, ...]:
    """Give how often each cluster was drawn, [rows, clusters] a chunk of resamples."""
    if clusters * resamples <= KEPT:
        return _kept(clusters, seed, resamples)
    return _drawn(clusters, seed, resamples)


@lru_cache(maxsize=16)
def _kept(clusters: int, seed: int, resamples: int) -> tuple[Counts, ...]:
    return tuple(_drawn(clusters, seed, resamples))


def _drawn(clusters: int, seed: int, resamples: int) -> Iterator[Counts]:
    rng = np.random.default_rng(seed)
    small = np.min_scalar_type(clusters)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.integers(clusters, size=(rows, clusters))
        drawn += clusters * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        yield counts.astype(small)
