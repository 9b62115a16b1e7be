import math
import time

import numpy as np
import pytest
from scipy import stats

from harness.report.resampling import resampled_sums
from harness.report.statistics import (
    Contrast,
    Estimate,
    bootstrap,
    holm,
    identity_seed,
    interval,
    mean_over_rows,
    plain_mean,
    rank_intervals,
    sign_flip_p,
)

NAN = math.nan


def estimate(values, clusters=None, other=None, **options):
    """Bootstrap one contrast."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    b = None if other is None else np.atleast_2d(np.asarray(other, dtype=float))
    names = [str(i) for i in range(values.shape[1])] if clusters is None else clusters
    return bootstrap([Contrast(values, b)], names, seed=options.pop("seed", 3), **options)[0]


def slow_replicates(values, clusters, seed, resamples):
    """Resample clusters one by one: the obvious version."""
    names = sorted(set(clusters))
    members = [[v for v, c in zip(values, clusters, strict=True) if c == n] for n in names]
    rng = np.random.default_rng(seed)
    out = []
    for start in range(0, resamples, 1000):
        for drawn in rng.integers(len(names), size=(min(1000, resamples - start), len(names))):
            pooled = [v for i in drawn for v in members[i]]
            out.append(sum(pooled) / len(pooled))
    return np.array(out)


def test_the_vectorised_bootstrap_agrees_with_the_obvious_one():
    """Clusters of unequal size are resampled whole, and the mean is sum over count."""
    rng = np.random.default_rng(0)
    clusters = [f"c{i}" for i in rng.integers(0, 9, size=40)]
    values = rng.normal(size=40)
    count = len(set(clusters))
    slow = slow_replicates(values, clusters, seed=3, resamples=2500)
    fast = estimate(values, clusters, resamples=2500)
    assert fast.value == pytest.approx(values.mean())
    assert fast.se == pytest.approx(slow.std(ddof=1))
    assert (fast.low, fast.high) == pytest.approx(interval(slow, count))
    assert (fast.n, fast.clusters) == (40, count)


def test_a_resample_draws_as_many_clusters_as_there_are():
    """A column of ones sums to the number of clusters in every resample."""
    sums = resampled_sums(np.ones((7, 1)), seed=1, resamples=1200)
    assert (sums == 7).all()


def test_the_paired_difference_uses_what_both_have():
    """Values missing on either side enter neither mean."""
    found = estimate([1, 2, 3, NAN, 9, 5, 5], other=[0, 1, 1, 7, NAN, 5, 4])
    assert found.value == pytest.approx((1 + 1 + 2 + 0 + 1) / 5)
    assert found.n == 5


def test_pairing_removes_what_the_rows_share():
    """A constant shift of the same values is found without any width."""
    values = np.random.default_rng(0).normal(size=30)
    found = estimate(values + 0.25, other=values)
    assert found.value == pytest.approx(0.25)
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))
    assert found.se == pytest.approx(0, abs=1e-9)
    assert found.excludes_zero


def test_equal_rows_differ_by_nothing():
    """A difference of exactly zero has an interval that holds zero."""
    values = np.random.default_rng(0).normal(size=30)
    found = estimate(values, other=values)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert not found.excludes_zero


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_clusters_have_no_interval(count):
    """Under six clusters a value is given and its interval is not."""
    found = estimate(np.arange(count))
    assert found.value == pytest.approx((count - 1) / 2)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not found.excludes_zero


def test_one_cluster_of_many_values_is_one_observation():
    """Many values of one cluster do not make an interval."""
    found = estimate(np.arange(50), ["same"] * 50)
    assert found.clusters == 1
    assert math.isnan(found.low)


def test_nothing_but_missing_values_is_no_number():
    """Without a value the estimate is NaN and counts nothing."""
    found = estimate([NAN] * 8)
    assert math.isnan(found.value)
    assert (found.n, found.clusters) == (0, 0)


def test_no_contrasts_no_estimates():
    """An empty request is an empty answer."""
    assert bootstrap([], ["a"], seed=0) == []


def test_the_same_data_gives_the_same_numbers_in_any_order():
    """Neither the order of values nor a second call changes anything."""
    rng = np.random.default_rng(5)
    values, clusters = rng.normal(size=25), [f"c{i % 11}" for i in range(25)]
    turned = rng.permutation(25)
    first = estimate(values, clusters)
    assert estimate(values, clusters) == first
    again = estimate(values[turned], [clusters[i] for i in turned])
    assert (again.low, again.high) == pytest.approx((first.low, first.high), abs=1e-12)
    assert identity_seed("a", "bc") != identity_seed("ab", "c")


def test_three_fits_are_an_outer_level():
    """Fits that disagree widen the interval; two fits are only averaged."""
    values = np.random.default_rng(1).normal(size=40)
    three = estimate(np.stack([values - 3, values, values + 3]))
    two = estimate(np.stack([values - 3, values + 3]))
    one = estimate(values)
    assert three.value == pytest.approx(values.mean())
    assert three.high - three.low > 4 * (one.high - one.low)
    assert (two.low, two.high) == pytest.approx((one.low, one.high))


def test_the_spread_of_fits_is_not_underestimated():
    """The outer level has the variance of a mean of independent fits."""
    fits = np.array([-1.0, 0.0, 0.5, 2.5])
    found = estimate(np.repeat(fits[:, None], 8, axis=1))
    assert found.se == pytest.approx(fits.std(ddof=1) / 2, rel=0.03)


@pytest.mark.parametrize("sizes", ["one each", "unequal"])
def test_intervals_cover_the_truth_as_often_as_they_say(sizes):
    """Of 300 small data sets about 95 % have the true mean inside."""
    rng = np.random.default_rng(11)
    repetitions, count, covered = 300, 12, 0
    for repetition in range(repetitions):
        size = np.ones(count, int) if sizes == "one each" else rng.integers(1, 4, size=count)
        clusters = np.repeat(np.arange(count), size)
        values = rng.normal(size=count)[clusters] + rng.normal(size=len(clusters))
        found = estimate(values, [f"c{c}" for c in clusters], seed=repetition, resamples=2000)
        covered += found.low <= 0 <= found.high
    low, high = stats.binom.ppf([0.001, 0.999], repetitions, 0.95)
    assert low <= covered <= high


def test_intervals_over_three_fits_cover_the_truth():
    """With few fits that differ, about 95 % of 300 intervals hold the mean over all fits."""
    rng = np.random.default_rng(12)
    repetitions, names = 300, [str(i) for i in range(20)]
    covered = 0
    for repetition in range(repetitions):
        values = rng.normal(size=(3, 1)) * 0.5 + rng.normal(size=(1, 20)) + rng.normal(size=(3, 20))
        found = estimate(values, names, seed=repetition, resamples=1000)
        covered += found.low <= 0 <= found.high
    low, high = stats.binom.ppf([0.001, 0.999], repetitions, 0.95)
    assert low <= covered <= high


def test_the_detectable_difference_has_eighty_per_cent_power():
    """A true difference of that size is found four times in five."""
    se, normal = 0.37, stats.norm
    size = Estimate(0.0, -1, 1, se).detectable
    power = normal.cdf(size / se - 1.959964) + normal.cdf(-size / se - 1.959964)
    assert power == pytest.approx(0.8, abs=1e-4)


def test_a_thousand_prompts_and_many_rows_take_a_moment():
    """Fifty contrasts over 512 clusters with 20,000 resamples stay within seconds of CPU."""
    rng = np.random.default_rng(0)
    contrasts = [Contrast(rng.normal(size=(1, 1024))) for _ in range(50)]
    start = time.process_time()
    bootstrap(contrasts, [f"c{i % 512}" for i in range(1024)], seed=0)
    assert time.process_time() - start < 10


# -------------------------------------------------------------- permutation


def test_sign_flips_are_counted_exactly_where_there_are_few():
    """Three equal differences: 2 of 8 patterns reach as far; with [1, 2, 3] likewise."""
    p = sign_flip_p(np.array([[1.0, 1, 0], [1, 2, 0], [1, 3, 0]]), seed=0)
    assert p == pytest.approx([0.25, 0.25, 1.0])


def test_drawn_sign_flips_approach_the_exact_test():
    """Beyond twelve clusters the p-value is that of scipy's permutation test."""
    values = np.random.default_rng(2).normal(0.4, 1, size=13)
    exact = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_p(values[:, None], seed=4)[0] == pytest.approx(exact, abs=0.01)


def test_without_a_difference_p_is_uniform():
    """Of 300 null data sets about five in a hundred have p below 0.05."""
    rng = np.random.default_rng(3)
    p = sign_flip_p(rng.normal(size=(20, 300)), seed=1, flips=4000)
    low, high = stats.binom.ppf([0.001, 0.999], 300, 0.05)
    assert low <= (p < 0.05).sum() <= high


def test_no_clusters_no_p():
    """Nothing to flip gives no p-value."""
    assert np.isnan(sign_flip_p(np.zeros((0, 2)), seed=0)).all()


# ------------------------------------------------------------- small pieces


def test_holm_by_hand():
    """Sorted p-values are multiplied by 3, 2, 1 and never fall; NaN does not count."""
    assert holm([0.01, NAN, 0.04, 0.03]) == pytest.approx([0.03, NAN, 0.06, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_rank_intervals_by_hand():
    """A row beaten by one and beating none of three may be second or third."""
    better = np.zeros((3, 3), dtype=bool)
    better[0, 2] = True
    assert rank_intervals(better) == [(1, 2), (1, 3), (2, 3)]
    better[0, 1] = better[1, 2] = True
    assert rank_intervals(better) == [(1, 1), (2, 2), (3, 3)]


def test_averaging_skips_what_is_missing():
    """The mean over seeds uses the seeds that have a value."""
    found = mean_over_rows(np.array([[1.0, NAN, NAN], [3.0, 5.0, NAN]]))
    assert found == pytest.approx([2.0, 5.0, NAN], nan_ok=True)


def test_one_seed_is_drawn_once(monkeypatch):
    """However many rows share the clusters, their resamples are drawn a single time."""
    made, default = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(seed) or default(seed))
    first = [resampled_sums(np.eye(9)[:, :k], seed=987_654_321, resamples=1500) for k in (1, 2, 9)]
    assert made == [987_654_321]
    assert (first[0] == first[2][:, :1]).all()


def test_an_interval_not_asked_for_costs_nothing_and_says_nothing():
    """Without bounds the standard error is the same, and no difference stands out."""
    values = np.random.default_rng(0).normal(3.0, 1.0, size=(1, 30))
    names = [str(i) for i in range(30)]
    asked, unasked = (
        bootstrap([Contrast(values, bounds=bounds)], names, seed=1)[0] for bounds in (True, False)
    )
    assert (unasked.value, unasked.se) == (asked.value, asked.se)
    assert asked.excludes_zero
    assert not unasked.excludes_zero


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_mean_without_an_interval_is_the_same_mean(rows):
    """Sub-scores are told without an interval: value and count are the bootstrap's."""
    values = np.random.default_rng(5).normal(size=(rows, 20))
    values[:, 3], values[0, 7] = NAN, NAN
    whole, plain = estimate(values), plain_mean(values)
    assert plain.value == pytest.approx(whole.value)
    assert plain.n == whole.n
    assert math.isnan(plain.low)
    assert math.isnan(plain_mean(np.full((rows, 4), NAN)).value)
