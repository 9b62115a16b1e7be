"""Means, differences and their intervals, by resampling clusters; pure functions over numpy.

A cluster is what is independent (a prompt, a question of two turns, a task): resampling
anything smaller would take repeated readings of one thing for evidence.  Clusters of
unequal size are handled by the ratio estimator: sum of values over sum of counts.
Nothing here draws on a global generator: a seed comes from the identity of the data.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harness.report.resampling import CHUNK, RESAMPLES, resampled_sums

Array = NDArray[np.float64]

LEVEL = 0.95
FEWEST_CLUSTERS = 6  # with fewer, no two-sided sign test can reach 5 %, so no interval is given
FEWEST_FITS = 3  # with fewer, the spread between fits cannot be estimated
EXACT_FLIPS = 12  # up to 2**12 sign patterns are enumerated, beyond that they are drawn
SIDES = 256  # sides of differences whose resampled means are kept: a table's rows


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    value      the estimate; NaN where there is nothing to estimate from.
    low, high  95 % interval; NaN where there are too few clusters for one.
    se         bootstrap standard error.
    n          values that entered (seeds and fits averaged first).
    clusters   clusters that entered.
    freedom    degrees of freedom of the standard error.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    se: float = math.nan
    n: int = 0
    clusters: int = 0
    freedom: float = math.nan

    @property
    def excludes_zero(self) -> bool:
        """Say whether the interval leaves zero out (False where there is no interval)."""
        return self.low > 0 or self.high < 0

    @property
    def detectable(self) -> float:
        """Give the smallest true value found with 80 % power at a two-sided 5 % level."""
        normal = NormalDist()
        return (normal.inv_cdf(0.975) + normal.inv_cdf(0.8)) * self.se


@dataclass(frozen=True)
class Contrast:
    """What is to be estimated: the mean of ``a``, or that of ``a`` less that of ``b``.

    a, b  [fits, values], NaN where missing; one row where there is no outer level.
          With ``b``, only values that both sides have enter.
    bounds  False where only the standard error is wanted: the interval is then without end.
    """

    a: Array
    b: Array | None = None
    bounds: bool = True


Side = tuple[tuple[int, int], ...]  # per fit: which columns hold its sums and its counts


def identity_seed(*parts: str) -> int:
    """Derive a seed from what the data is, so that the same data gives the same bytes."""
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def interval(replicates: Array, clusters: int) -> tuple[float, float]:
    """Read a 95 % interval off bootstrap replicates.

    Percentiles, widened for a small number of clusters so that the coverage holds:
    the "expanded percentile" interval of Hesterberg, The American Statistician 69 (2015).
    """
    if clusters < FEWEST_CLUSTERS:
        return math.nan, math.nan
    t = student(clusters - 1, (1 + LEVEL) / 2)
    tail = NormalDist().cdf(-math.sqrt(clusters / (clusters - 1)) * t)
    quantile = np.nanquantile if np.isnan(replicates).any() else np.quantile
    low, high = quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    contrasts: Sequence[Contrast],
    clusters: Sequence[str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Estimate]:
    """Estimate every contrast with one shared set of cluster resamples; see ``replicated``."""
    made = replicated(contrasts, clusters, seed=seed, resamples=resamples)
    return [estimate for estimate, _ in made]


def replicated(
    contrasts: Sequence[Contrast],
    clusters: Sequence[str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Iterator[tuple[Estimate, Array]]:
    """Estimate every contrast, and give what it was in each of the shared cluster resamples.

    clusters  the cluster of each value.  A side with at least three rows (fits) has them as
    the outer level of the bootstrap: fits - 1 are drawn, which makes the variance of
    their mean unbiased (Rao & Wu 1988), and the interval is Student's; fewer rows are
    averaged first.
    """
    names, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    registry: dict[bytes, int] = {}
    columns: list[Array] = []

    def register(column: Array) -> int:
        """Keep equal columns once: most rows share their counts."""
        key = column.tobytes()
        if key not in registry:
            registry[key] = len(columns)
            columns.append(column)
        return registry[key]

    plans: list[list[Side]] = []
    for contrast in contrasts:
        sides = paired(contrast)
        plans.append(
            [
                tuple(
                    (register(cluster_sums(row, codes, len(names))), register(counted))
                    for row in side
                    for counted in [cluster_counts(row, codes, len(names))]
                )
                for side in sides
            ]
        )
    if not columns:
        return
    table = np.column_stack(columns)
    drawn = resampled_sums(table, seed=seed, resamples=resamples)

    @lru_cache(SIDES)
    def resampled_mean(side: Side, number: int) -> Array:
        """Give the mean of one side in every resample; a row is a side of many differences."""
        sums, ns = [s for s, _ in side], [n for _, n in side]
        with np.errstate(invalid="ignore", divide="ignore"):
            if len(side) < FEWEST_FITS:
                return np.asarray(drawn[:, sums[0]] / drawn[:, ns[0]])
            weights = _fit_weights(resamples, len(side), seed + number)
            totals = (weights * drawn[:, sums]).sum(axis=1)
            return np.asarray(totals / (weights * drawn[:, ns]).sum(axis=1))

    for plan, contrast in zip(plans, contrasts, strict=True):
        means = [resampled_mean(side, number) for number, side in enumerate(plan)]
        yield _estimate(plan, table, means, contrast.bounds)


def paired(contrast: Contrast) -> list[Array]:
    """Give the one or two sides, restricted to the values that both have."""
    a = _averaged(contrast.a)
    if contrast.b is None:
        return [a]
    b = _averaged(contrast.b)
    both = ~(np.isnan(a).all(axis=0) | np.isnan(b).all(axis=0))
    return [np.where(both, a, np.nan), np.where(both, b, np.nan)]


def mean_over_rows(values: Array) -> Array:
    """Average seeds or fits: [rows, values] -> [values]; NaN only where every row misses."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def plain_mean(values: Array) -> Estimate:
    """Give the mean as ``replicated`` does, without an interval: [rows, values]."""
    kept = _averaged(values)
    there = ~np.isnan(kept)
    count = int(there.sum())
    total = float(kept[there].sum())
    return Estimate(total / count if count else math.nan, n=int(there.max(axis=0).sum()))


def cluster_sums(values: Array, codes: NDArray[np.intp], clusters: int) -> Array:
    """Sum the values of each cluster; missing ones count as nothing."""
    sums = np.bincount(codes, weights=np.nan_to_num(values), minlength=clusters)
    return sums.astype(np.float64)


def cluster_counts(values: Array, codes: NDArray[np.intp], clusters: int) -> Array:
    """Count the values of each cluster that are there."""
    return np.bincount(codes[~np.isnan(values)], minlength=clusters).astype(np.float64)


def _averaged(values: Array) -> Array:
    """Leave an outer level standing only where it has enough fits."""
    return values if len(values) >= FEWEST_FITS else mean_over_rows(values)[None]


def _estimate(
    plan: Sequence[Side], table: Array, means: Sequence[Array], bounds: bool
) -> tuple[Estimate, Array]:
    value, counts, fits = 0.0, np.zeros(len(table)), list[Array]()
    for sign, side in zip((1, -1), plan, strict=False):
        sums, ns = [s for s, _ in side], [n for _, n in side]
        counts = np.maximum(counts, table[:, ns].max(axis=1))
        total = table[:, ns].sum()
        value += sign * (table[:, sums].sum() / total if total else math.nan)
        if len(side) >= FEWEST_FITS:
            fits.append(table[:, sums].sum(axis=0) / np.maximum(table[:, ns].sum(axis=0), 1))
    replicates = means[0] if len(means) == 1 else means[0] - means[1]
    clusters = int((counts > 0).sum())
    n = int(counts.sum())
    if math.isnan(value) or clusters < 2:
        return Estimate(value, n=n, clusters=clusters), replicates
    deviation = np.nanstd if np.isnan(replicates).any() else np.std
    se = float(deviation(replicates, ddof=1))
    if fits and clusters >= FEWEST_CLUSTERS:
        freedom = _fit_freedom(se, fits, clusters)
        half = se * student(freedom, (1 + LEVEL) / 2)
        return Estimate(value, value - half, value + half, se, n, clusters, freedom), replicates
    low, high = -math.inf, math.inf
    if bounds or clusters < FEWEST_CLUSTERS:
        low, high = interval(replicates, clusters)
    return Estimate(value, low, high, se, n, clusters, clusters - 1.0), replicates


@lru_cache(1024)
def student(freedom: float, share: float) -> float:
    """Give the quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def _fit_freedom(se: float, fits: Sequence[Array], clusters: int) -> float:
    """Give the degrees of freedom of an interval over a few fits.

    The percentiles of three fits end at the outermost fit, so Student's t takes their
    place, with the degrees of freedom of Satterthwaite (1946): those of the fits where
    the fits differ most, those of the clusters where they hardly differ.
    """
    between = [min(float(means.var(ddof=1)) / len(means), se * se) for means in fits]
    rest = max(se * se - sum(between), 0.0)
    spread = rest**2 / (clusters - 1)
    spread += sum(part**2 / (len(means) - 1) for part, means in zip(between, fits, strict=True))
    return max(1.0, se**4 / spread) if spread > 0 else float(clusters - 1)


@lru_cache(4)
def _fit_weights(resamples: int, fits: int, seed: int) -> Array:
    rng = np.random.default_rng([seed, fits])
    drawn = rng.integers(fits, size=(resamples, fits - 1))
    return np.asarray((drawn[:, :, None] == np.arange(fits)).sum(axis=1), dtype=np.float64)


def sign_flip_p(sums: Array, *, seed: int, flips: int = RESAMPLES) -> Array:
    """Test paired differences against zero by flipping the sign of whole clusters.

    sums  [clusters, k], the differences of each cluster summed; gives k two-sided
    p-values.  Exact up to twelve clusters, else by draws, the observed pattern included.
    """
    clusters = len(sums)
    if clusters == 0:
        return np.full(sums.shape[1], np.nan)
    observed = np.abs(sums.sum(axis=0))
    reach = observed - 1e-9 * np.abs(sums).sum(axis=0)  # rounding must not break ties
    if clusters <= EXACT_FLIPS:
        patterns = (np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1
        return np.asarray((np.abs((2.0 * patterns - 1) @ sums) >= reach).mean(axis=0))
    rng = np.random.default_rng(seed)
    hits = np.zeros(sums.shape[1])
    for start in range(0, flips, CHUNK):
        rows = min(CHUNK, flips - start)
        signs = rng.integers(2, size=(rows, clusters), dtype=np.int8).astype(np.float64)
        hits += (np.abs((2 * signs - 1) @ sums) >= reach).sum(axis=0)
    return np.asarray((hits + 1) / (flips + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979); NaN stays NaN and does not count."""
    known = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    corrected, least = [math.nan] * len(p), 0.0
    for place, (value, i) in enumerate(known):
        least = max(least, min(1.0, value * (len(known) - place)))
        corrected[i] = least
    return corrected


def rank_intervals(better: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Give each row the places it may hold.

    better  [rows, rows], True where row i is better than row j beyond doubt.
    """
    rows = len(better)
    return [(1 + int(better[:, i].sum()), rows - int(better[i].sum())) for i in range(rows)]
