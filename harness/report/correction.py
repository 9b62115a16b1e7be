"""A judge's win rate, corrected by a labelled slice of the row's own answers; pure functions.

A judge errs differently on different methods, so each row is corrected by labels of its own.
The estimator is the regression estimator of survey sampling (Cochran, Sampling Techniques,
ch. 7), known as power-tuned prediction-powered inference (Angelopoulos et al., Science 382,
2023; PPI++, arXiv 2311.01453):

    rate = mean of labels + slope x (judge's mean over all - judge's mean over the labelled)

with the slope of least squares, between 0 (the judge says nothing: the labels alone) and 1.
Its standard error is from resampling clusters and computing everything anew, the slope too, so
how little the slice says about the judge is in it.  The interval is Wilson's at the number of
labels that would have this standard error (Korn & Graubard, Survey Methodology 24, 1998):
percentiles are too short where nearly all labels are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harness.report.resampling import RESAMPLES, resampled_sums
from harness.report.statistics import (
    FEWEST_CLUSTERS,
    LEVEL,
    Array,
    Estimate,
    cluster_sums,
    identity_seed,
    student,
)
from harness.report.verdicts import wilson

SHARE = 0.25  # of the clusters are taken as labelled where the truth of all is known


@dataclass(frozen=True)
class Corrected:
    """A corrected win rate.

    rate      with an interval that holds the slice's uncertainty.
    slope     how far the judge was believed, 0 to 1.
    labelled  answers with a label.
    one_class whether all labels were equal: then the labels alone speak.
    """

    rate: Estimate
    slope: float
    labelled: int
    one_class: bool = False


def labelled_slice(clusters: Sequence[str], share: float = SHARE) -> NDArray[np.bool_]:
    """Choose clusters by a hash of their names: the same ones for every row and every day."""
    names = sorted(set(clusters), key=lambda name: identity_seed("labelled slice", name))
    chosen = set(names[: max(1, math.ceil(share * len(names)))])
    return np.array([name in chosen for name in clusters], dtype=bool)


def corrected(
    judged: Array, labels: Array, clusters: Sequence[str], *, resamples: int = RESAMPLES
) -> Corrected | None:
    """Correct a win rate; None where fewer than six clusters have a label.

    judged  [n] verdicts in [0, 1]; a missing one counts as a half, which predicts nothing
            and biases nothing, since the slice corrects it.
    labels  [n] the truth in [0, 1], NaN outside the slice.
    """
    f = np.where(np.isnan(judged), 0.5, judged)
    there = ~np.isnan(labels)
    names, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    slice_clusters = len(np.unique(codes[there]))
    if slice_clusters < FEWEST_CLUSTERS:
        return None
    known = labels[there]
    n = int(there.sum())
    if np.all(known == known[0]):
        # Nothing varies, so nothing can be resampled or regressed on.
        low, high = _interval(float(known[0]), 0.0, slice_clusters)
        rate = Estimate(float(known[0]), low, high, n=n, clusters=slice_clusters)
        return Corrected(rate, 0.0, n, one_class=True)
    y, mask = np.where(there, labels, 0.0), there.astype(float)
    per_item = (mask, y, mask * f, y * f, mask * f * f, np.ones_like(f), f)
    sums = np.column_stack([cluster_sums(column, codes, len(names)) for column in per_item])
    seed = identity_seed("correction", *names)
    value, slope = _estimate(sums.sum(axis=0)[None])
    replicates, _ = _estimate(resampled_sums(sums, seed=seed, resamples=resamples))
    se = float(np.nanstd(replicates, ddof=1))
    low, high = _interval(float(value[0]), se, slice_clusters)
    rate = Estimate(float(value[0]), low, high, se, n, slice_clusters)
    return Corrected(rate, float(slope[0]), n)


def _interval(value: float, se: float, clusters: int) -> tuple[float, float]:
    """Give Wilson's interval at the labels this standard error is worth, widened for few."""
    if not 0 < value < 1 or not se > 0:  # at its end a rate is worth its labelled clusters
        return wilson(value * clusters, clusters)
    wider = student(clusters - 1, (1 + LEVEL) / 2) / NormalDist().inv_cdf((1 + LEVEL) / 2)
    worth = value * (1 - value) / (se * wider) ** 2 * (clusters - 1) / clusters
    low, high = wilson(value * worth, worth)
    return max(low, 0.0), min(high, 1.0)


def _estimate(sums: Array) -> tuple[Array, Array]:
    """Give rate and slope of each row of sums; NaN where a resample holds no label."""
    count, y, f, yf, ff, everything, f_all = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_y, mean_f = y / count, f / count
        variance = ff / count - mean_f**2
        slope = np.where(variance > 1e-12, (yf / count - mean_y * mean_f) / variance, 0.0)
        slope = np.clip(slope, 0.0, 1.0)
        return np.clip(mean_y + slope * (f_all / everything - mean_f), 0.0, 1.0), slope
