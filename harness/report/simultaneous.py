"""Intervals that hold for a whole family of differences at once, by the largest statistic.

Every difference has a bootstrap statistic T = (resampled - estimate) / standard error.  The
95 % quantile of the largest |T| of the family is how far, in standard errors, every interval
must reach so that all of them hold together in 95 % of repetitions: single-step max-T
(Westfall & Young 1993; Romano & Wolf, Econometrica 73, 2005).  It uses how the rows depend on
one another, so twenty rows that move together cost less than twenty that do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from harness.report.statistics import FEWEST_CLUSTERS, LEVEL, Array, Estimate, student


class Family:
    """Differences that are read together.

    count    how many of them have a standard error above zero: those that can be wrong.
    largest  [resamples], the largest |T| of them in each resample.
    """

    def __init__(self) -> None:
        self.count = 0
        self.largest: Array = np.zeros(0)
        self._read: tuple[int, float] = (0, NormalDist().inv_cdf((1 + LEVEL) / 2))

    def add(self, estimate: Estimate, replicates: Array) -> None:
        """Take a difference and its resampled values into the family."""
        if not estimate.se > 0 or estimate.clusters < FEWEST_CLUSTERS:
            return
        t = np.abs(np.nan_to_num(replicates - estimate.value)) / estimate.se
        self.largest = np.maximum(self.largest, t) if self.count else t
        self.count += 1

    @classmethod
    def joined(cls, families: Iterable[Family]) -> Family:
        """Join families over unlike items, resample by resample."""
        whole = cls()
        for family in families:
            if family.count:
                largest = family.largest
                whole.largest = np.maximum(whole.largest, largest) if whole.count else largest
                whole.count += family.count
        return whole

    @property
    def critical(self) -> float:
        """Give how many standard errors an interval reaches, were there clusters without end."""
        if self._read[0] != self.count:  # read again where differences came in
            self._read = self.count, float(np.quantile(self.largest, LEVEL))
        return self._read[1]

    def interval(self, estimate: Estimate) -> Estimate:
        """Give an estimate the family's interval, widened for few clusters as a single one is.

        The same tail that ``critical`` leaves under the normal curve is left under Student's
        t of the estimate's degrees of freedom, and the standard error is made unbiased.
        """
        if math.isnan(estimate.low):
            return estimate
        tail = NormalDist().cdf(-self.critical)
        reach = -student(estimate.freedom, max(tail, 1e-300))
        half = estimate.se * math.sqrt(estimate.clusters / (estimate.clusters - 1)) * reach
        return replace(estimate, low=estimate.value - half, high=estimate.value + half)
