import math

import numpy as np
import pytest
from scipy import stats

from harness.report.verdicts import (
    kind_of,
    mcnemar,
    strict_rate,
    strict_test,
    verdicts,
    wilson,
    worst_case,
)

NAN = math.nan


def names(count):
    """One cluster a verdict."""
    return [f"c{i}" for i in range(count)]


def test_kinds_of_verdicts():
    """Two orders decide only together; a weighed verdict falls to its side."""
    assert kind_of(1.0, (1.0, 1.0)) == "won"
    assert kind_of(0.0, (0.0, 0.0)) == "lost"
    assert kind_of(0.5, (1.0, 0.0)) == "split"
    assert kind_of(0.75, (1.0, 0.5)) == "split"
    assert kind_of(0.5, (0.5, 0.5)) == kind_of(0.5) == "tied"
    assert kind_of(0.73) == kind_of(0.75, (0.9, 0.6)) == "won"
    assert kind_of(0.6, (0.9, 0.3)) == "split"
    assert kind_of(0.27, (0.27,)) == "lost"


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (60, 100)])
def test_wilson_is_scipys(k, n):
    """The interval is the one scipy computes."""
    known = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((known.low, known.high), abs=1e-12)


def test_wilson_of_nothing():
    """No observation gives no interval."""
    assert all(math.isnan(bound) for bound in wilson(0, 0))


def test_mcnemar_looks_at_discordant_pairs():
    """Five pairs won by one side only, none by the other: p = 2 / 32."""
    a = np.array([1, 1, 1, 1, 1, 1, 0, NAN])
    b = np.array([0, 0, 0, 0, 0, 1, 0, 0])
    assert mcnemar(a, b) == pytest.approx(2 / 32)
    assert mcnemar(b, a) == pytest.approx(2 / 32)
    assert mcnemar(a, a) == 1.0
    assert mcnemar(a[:0], b[:0]) == 1.0


@pytest.mark.parametrize(("only_a", "only_b"), [(7, 2), (1, 0), (4, 4), (30, 12)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    """Discordant pairs fall to either side with equal chance: scipy's exact two-sided test."""
    a = np.array([1.0] * only_a + [0.0] * only_b + [1.0] * 5)
    b = np.array([0.0] * only_a + [1.0] * only_b + [1.0] * 5)
    assert mcnemar(a, b) == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)


def test_the_strict_test_is_mcnemars_where_verdicts_are_alone():
    """One verdict a cluster: McNemar, and exactly what flipping every sign would give."""
    a, b = np.array([1.0] * 7 + [0.0] * 3), np.array([0.0] * 7 + [1.0, 1.0, 0.0])
    p, test = strict_test(a, b, names(10))
    assert (p, test) == (pytest.approx(stats.binomtest(7, 9).pvalue), "McNemar")
    both, flipped = strict_test(np.tile(a, 2) / 2, np.tile(b, 2) / 2, names(10) * 2)
    assert (both, flipped) == (pytest.approx(p), "sign flips")


def test_turns_of_one_question_are_not_independent():
    """Ten wins in five clusters are five flips, not ten coins."""
    p, test = strict_test(np.ones(10), np.zeros(10), [f"q{i // 2}" for i in range(10)])
    assert (p, test) == (pytest.approx(2 / 2**5), "sign flips")
    assert math.isnan(strict_test(np.array([NAN]), np.array([1.0]), ["a"])[0])


def test_missing_values_bound_the_mean():
    """One missing of four moves the mean by at most a quarter either way."""
    assert worst_case(np.array([1, 0, 1, NAN])) == (0.5, 0.75)
    assert worst_case(np.array([2.0, NAN]), -2.0, 4.0) == (0.0, 3.0)
    assert all(math.isnan(bound) for bound in worst_case(np.array([])))


def test_verdicts_are_counted_by_kind():
    """Two wins, a tie, a split, a loss and no verdict: strictly 2 of 5, bounds by the one."""
    values = np.array([1, 1, 0.5, 0.5, 0, NAN])
    found = verdicts(values, ["won", "won", "tied", "split", "lost", None], names(6))
    assert found.kinds == {"won": 2, "tied": 1, "split": 1, "lost": 1}
    assert found.strict.value == pytest.approx(2 / 5)
    assert (found.strict.low, found.strict.high) == pytest.approx(wilson(2, 5))
    assert (found.bound_low, found.bound_high) == pytest.approx((3 / 6, 4 / 6))
    assert found.p == pytest.approx(stats.binomtest(2, 3).pvalue)


def test_verdicts_pair_with_the_references_own():
    """With the reference's verdicts the test is between the two, else wins against losses."""
    kinds = ["won", "won", "won", "lost"]
    values = np.array([1.0, 1, 1, 0])
    alone = verdicts(values, kinds, names(4))
    assert (alone.p, alone.test) == (pytest.approx(stats.binomtest(3, 4).pvalue), "McNemar")
    assert verdicts(values, kinds, names(4), kinds).p == 1.0


def test_a_strict_rate_over_clusters_is_resampled_by_cluster():
    """Verdicts that go together in pairs are no more sure than half as many."""
    won = np.array([1.0, 0, 1, 1, 0, 1, 0, 1])
    alone = strict_rate(won, names(8))
    pairs = strict_rate(np.repeat(won, 2), [c for c in names(8) for _ in range(2)])
    assert pairs.value == alone.value == 5 / 8
    assert pairs.clusters == 8
    assert pairs.high - pairs.low > 0.8 * (alone.high - alone.low)
    assert math.isnan(strict_rate(np.array([NAN]), ["a"]).value)
