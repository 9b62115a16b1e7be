import math

import numpy as np
import pytest
from scipy import stats

from harness.report.simultaneous import Family
from harness.report.statistics import Contrast, Estimate, rank_intervals, replicated

NAN = math.nan


def family_of(rows, clusters=None, seed=0, resamples=1500):
    """Give estimates of the rows' means, and the family they form."""
    names = clusters or [str(i) for i in range(rows.shape[1])]
    family, estimates = Family(), []
    contrasts = [Contrast(row[None]) for row in rows]
    for estimate, replicates in replicated(contrasts, names, seed=seed, resamples=resamples):
        family.add(estimate, replicates)
        estimates.append(estimate)
    return family, estimates


def test_a_family_of_one_is_a_single_interval():
    """The critical value of one difference is the normal one, and its interval Student's."""
    values = np.random.default_rng(0).normal(size=(1, 60))
    family, [estimate] = family_of(values, resamples=20_000)
    assert family.critical == pytest.approx(1.96, abs=0.05)
    found = family.interval(estimate)
    t = stats.ttest_1samp(values[0], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.02)


def test_independent_rows_cost_what_theory_says():
    """Ten unrelated rows: the quantile of the largest of ten normals."""
    rows = np.random.default_rng(1).normal(size=(10, 400))
    family, _ = family_of(rows, resamples=10_000)
    assert family.count == 10
    assert family.critical == pytest.approx(stats.norm.ppf((1 + 0.95**0.1) / 2), abs=0.06)


def test_rows_that_move_together_cost_nothing():
    """Twenty copies of one row are one row."""
    values = np.random.default_rng(2).normal(size=(1, 60))
    family, _ = family_of(np.repeat(values, 20, axis=0))
    assert family.critical == pytest.approx(family_of(values)[0].critical)


def test_what_cannot_vary_is_in_no_family():
    """A constant row, and one of too few clusters, have no part in the critical value."""
    family, [constant, row] = family_of(np.stack([np.ones(9), np.arange(9.0)]))
    assert family.count == 1
    found = family.interval(constant)
    assert (found.low, found.high) == (1.0, 1.0)
    assert family.interval(row).high > row.value
    few, [estimate] = family_of(np.arange(4.0)[None])
    assert few.count == 0
    assert math.isnan(few.interval(estimate).low)


def test_families_over_unlike_items_are_joined():
    """Joining takes the largest statistic of either, resample by resample."""
    rng = np.random.default_rng(3)
    a, _ = family_of(rng.normal(size=(3, 50)), seed=1)
    b, _ = family_of(rng.normal(size=(4, 80)), seed=2)
    whole = Family.joined([a, Family(), b])
    assert whole.count == 7
    assert (whole.largest == np.maximum(a.largest, b.largest)).all()
    assert whole.critical > max(a.critical, b.critical) - 1e-9
    assert Family.joined([]).critical == pytest.approx(1.96, abs=0.001)


@pytest.mark.parametrize(("count", "clusters", "scale"), [(4, 16, 1.0), (12, 40, 0.4)])
def test_simultaneous_intervals_cover_all_nulls_together(count, clusters, scale):
    """In about 95 of 100 null worlds every one of the rows' intervals holds zero."""
    rng = np.random.default_rng(4)
    repetitions, covered = 300, 0
    for repetition in range(repetitions):
        shared = rng.normal(size=(1, clusters))
        rows = scale * shared + rng.normal(size=(count, clusters))
        family, estimates = family_of(rows, seed=repetition, resamples=1000)
        found = [family.interval(estimate) for estimate in estimates]
        covered += all(e.low <= 0 <= e.high for e in found)
    low, high = stats.binom.ppf([0.001, 0.999], repetitions, 0.95)
    assert low <= covered <= high


def test_two_benchmarks_are_covered_together():
    """Intervals of one family over two sets of prompts hold together, not set by set."""
    rng = np.random.default_rng(5)
    repetitions, covered = 300, 0
    for repetition in range(repetitions):
        made = [
            family_of(rng.normal(size=(3, n)), seed=2 * repetition + n, resamples=1000)
            for n in (24, 41)
        ]
        whole = Family.joined(family for family, _ in made)
        found = [whole.interval(e) for _, estimates in made for e in estimates]
        covered += all(e.low <= 0 <= e.high for e in found)
    low, high = stats.binom.ppf([0.001, 0.999], repetitions, 0.95)
    assert low <= covered <= high


def test_ranks_of_equal_rows_are_all_open_together():
    """Among six equal rows, in about 95 of 100 worlds no pair at all is ordered."""
    rng = np.random.default_rng(6)
    repetitions, open_ = 200, 0
    pairs = [(i, j) for i in range(6) for j in range(i)]
    for repetition in range(repetitions):
        rows = rng.normal(size=(6, 30))
        differences = np.stack([rows[i] - rows[j] for i, j in pairs])
        family, estimates = family_of(differences, seed=repetition, resamples=800)
        better = np.zeros((6, 6), dtype=bool)
        for (i, j), estimate in zip(pairs, estimates, strict=True):
            if family.interval(estimate).excludes_zero:
                better[(i, j) if estimate.value > 0 else (j, i)] = True
        open_ += all(rank == (1, 6) for rank in rank_intervals(better))
    low, high = stats.binom.ppf([0.001, 0.999], repetitions, 0.95)
    assert low <= open_ <= high


def test_an_estimate_without_an_interval_gets_none():
    """What has too few clusters for an interval has too few for the family's."""
    assert math.isnan(Family().interval(Estimate(1.0)).low)
