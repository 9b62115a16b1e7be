import math

import numpy as np
import pytest
from scipy import stats

from harness.report.verdicts import mcnemar, verdicts, wilson, win_rate, worst_case

NAN = math.nan


def test_a_tie_is_half_a_win_or_none():
    """Two wins, a tie, a loss and no verdict: 2.5 of 4, strictly 2 of 4."""
    found = win_rate(np.array([1, 1, 0.5, 0, NAN]))
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert (found.half, found.strict) == (0.625, 0.5)


def test_no_verdicts_no_rate():
    """Without verdicts the rate is no number."""
    found = win_rate(np.array([NAN, NAN]))
    assert math.isnan(found.half)
    assert math.isnan(found.strict)


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
    b = np.array([0, 0.5, 0, 0, 0, 1, 0, 0])
    assert mcnemar(a, b) == pytest.approx(2 / 32)
    assert mcnemar(b, a) == pytest.approx(2 / 32)
    assert mcnemar(a, a) == 1.0
    assert mcnemar(a[:0], b[:0]) == 1.0


def test_mcnemar_is_a_binomial_test():
    """Seven against two discordant pairs is scipy's exact two-sided test."""
    a = np.array([1.0] * 7 + [0.0] * 2)
    assert mcnemar(a, 1 - a) == pytest.approx(stats.binomtest(7, 9).pvalue)


def test_missing_values_bound_the_mean():
    """One missing of four moves the mean by at most a quarter either way."""
    assert worst_case(np.array([1, 0, 1, NAN])) == (0.5, 0.75)
    assert worst_case(np.array([2.0, NAN]), -2.0, 4.0) == (0.0, 3.0)
    assert all(math.isnan(bound) for bound in worst_case(np.array([])))


def test_verdicts_pair_with_the_references_own():
    """With the reference's verdicts the test is between the two, else wins against losses."""
    ours = np.array([1.0, 1, 1, 0])
    assert verdicts(ours).mcnemar_p == pytest.approx(stats.binomtest(3, 4).pvalue)
    assert verdicts(ours, ours).mcnemar_p == 1.0
