import itertools

import numpy as np
import pytest

from harness.report.pool import (
    Pool,
    curve,
    expected_max,
    expected_of_selected,
    selection_weights,
)


def every_subset(scores, other, n):
    """Average over all ways to draw n candidates: the slow oracle, ties split evenly."""
    values = []
    for drawn in itertools.combinations(range(len(scores)), n):
        best = max(scores[i] for i in drawn)
        values.append(np.mean([other[i] for i in drawn if scores[i] == best]))
    return np.mean(values)


@pytest.mark.parametrize("scores", [[0.3, -1.0, 2.0, 0.9, 0.1], [1.0, 1.0, 0.0, 1.0], [2.5]])
def test_the_curve_is_the_mean_over_all_subsets(scores):
    """For every n the estimator equals full enumeration, for the score and for gold."""
    scores = np.array(scores)
    gold = np.random.default_rng(0).normal(size=len(scores))
    for n in range(1, len(scores) + 1):
        assert expected_max(scores)[n - 1] == pytest.approx(every_subset(scores, scores, n))
        assert expected_of_selected(scores, gold)[n - 1] == pytest.approx(
            every_subset(scores, gold, n)
        )


def test_its_ends_are_the_mean_and_the_maximum():
    """At n = 1 stands the pool's mean, at n = M its maximum; between them it rises."""
    scores = np.random.default_rng(1).normal(size=64)
    found = expected_max(scores)
    assert found[0] == pytest.approx(scores.mean())
    assert found[-1] == scores.max()
    assert (np.diff(found) > 0).all()


def test_weights_are_probabilities():
    """Each n's weights sum to one, also for large pools."""
    assert selection_weights(300).sum(axis=1) == pytest.approx(np.ones(300))


def test_the_estimator_has_no_bias():
    """Over many small pools of a uniform score, the best of 3 averages to 3/4."""
    draws = np.random.default_rng(2).uniform(size=(4000, 8))
    mean = np.mean([expected_max(scores)[2] for scores in draws])
    assert mean == pytest.approx(0.75, abs=0.01)


def test_a_proxy_that_knows_nothing_gains_no_gold():
    """Where score and gold are unrelated, gold of the selected stays at the mean."""
    rng = np.random.default_rng(3)
    pools = [Pool(str(i), rng.normal(size=8), rng.normal(size=8)) for i in range(300)]
    found = curve(pools, resamples=1000)
    assert found.selecting[-1].value > 1.2
    assert found.gold[-1].low < 0 < found.gold[-1].high


def test_the_curve_ends_with_the_smallest_pool():
    """Pools of different sizes are compared as far as all of them reach."""
    pools = [Pool("a", np.arange(5.0)), Pool("b", np.arange(3.0))]
    found = curve(pools, resamples=100)
    assert [round(e.value, 6) for e in found.selecting] == [1.5, 2.333333, 2.75]
    assert found.gold == ()


def test_no_pools_no_curve():
    """Without pools there is nothing to draw."""
    assert curve([]).selecting == ()
