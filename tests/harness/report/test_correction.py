import math

import numpy as np
import pytest
from scipy import stats

from harness.report.correction import corrected, labelled_slice

NAN = math.nan


def names(count):
    """One cluster an answer."""
    return [f"c{i}" for i in range(count)]


def world(rng, count, truth, right):
    """Draw labels at a known rate and a judge that is right with chances by true class."""
    y = (rng.random(count) < truth).astype(float)
    agrees = rng.random(count) < np.where(y == 1, *right)
    return y, np.where(agrees, y, 1 - y)


def test_a_perfect_judge_needs_no_correction():
    """Where judge and labels agree the rate is the judge's, as sure as all its verdicts."""
    y = np.tile([1.0, 0, 1, 1], 50)
    labels = np.where(np.arange(200) < 40, y, NAN)
    found = corrected(y, labels, names(200))
    assert found.slope == pytest.approx(1.0)
    assert found.rate.value == pytest.approx(0.75)
    assert found.rate.high - found.rate.low < 0.15


def test_a_judge_that_says_nothing_leaves_the_labels():
    """A judge unrelated to the truth is not believed: the rate is the labels' mean."""
    y = np.tile([1.0, 0.0, 0.0, 1.0], 100)
    f = np.tile([1.0, 1.0, 0.0, 0.0], 100)
    labels = np.where(np.arange(400) < 100, y, NAN)
    found = corrected(f, labels, names(400))
    assert found.slope == pytest.approx(0.0, abs=1e-9)
    assert found.rate.value == pytest.approx(0.5)


def test_the_estimate_by_hand():
    """Six labelled of eight: mean of labels plus slope times the judge's shift."""
    f = np.array([1.0, 1, 1, 0, 0, 0, 1, 1])
    y = np.array([1.0, 1, 0, 0, 0, 1, NAN, NAN])
    found = corrected(f, y, names(8))
    slope = np.cov(f[:6], y[:6], ddof=0)[0, 1] / np.var(f[:6])
    assert found.slope == pytest.approx(slope)
    assert found.rate.value == pytest.approx(0.5 + slope * (5 / 8 - 1 / 2))
    assert (found.labelled, found.rate.clusters) == (6, 6)


def test_a_missing_verdict_is_a_half_and_drops_nothing():
    """An answer without a verdict still counts among those the rate is about."""
    y = np.tile([1.0, 0.0], 20)
    f = np.where(np.arange(40) % 5 == 0, NAN, y)
    labels = np.where(np.arange(40) < 20, y, NAN)
    found = corrected(f, labels, names(40))
    filled = corrected(np.where(np.isnan(f), 0.5, f), labels, names(40))
    assert found == filled


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_of_one_class_speak_alone(label):
    """Nothing to regress on: the interval of a proportion at its end, and it is said."""
    f = np.tile([1.0, 0.0], 30)
    labels = np.where(np.arange(60) < 20, label, NAN)
    found = corrected(f, labels, names(60))
    assert found.one_class
    assert found.slope == 0.0
    assert found.rate.value == label
    assert 0.1 < found.rate.high - found.rate.low < 0.2


def test_too_few_labels_correct_nothing():
    """Five labelled clusters are no slice."""
    labels = np.where(np.arange(40) < 5, 1.0, NAN)
    assert corrected(np.ones(40), labels, names(40)) is None
    assert corrected(np.ones(40), np.full(40, NAN), names(40)) is None


def test_the_slice_is_a_quarter_and_the_same_for_every_row():
    """Clusters are taken whole, by their names, whatever else is in the row."""
    clusters = [f"c{i // 2}" for i in range(80)]
    chosen = labelled_slice(clusters)
    assert chosen.sum() == 20
    assert (chosen[::2] == chosen[1::2]).all()
    backwards = labelled_slice(clusters[::-1])
    assert (backwards[::-1] == chosen).all()


@pytest.mark.parametrize(
    ("truth", "right"),
    [(0.5, (0.9, 0.8)), (0.85, (0.95, 0.5)), (0.3, (0.6, 0.6)), (0.93, (1.0, 0.3))],
)
def test_corrected_intervals_hold_the_truth(truth, right):
    """Judges with unlike errors: about 95 of 100 intervals hold the true rate, never below 90."""
    rng = np.random.default_rng(7)
    repetitions, held, naive = 200, 0, 0
    for _ in range(repetitions):
        y, f = world(rng, 400, truth, right)
        labels = np.where(np.arange(400) < 100, y, NAN)
        found = corrected(f, labels, names(400), resamples=600).rate
        held += found.low <= truth <= found.high
        half = 1.96 * f.std() / 20
        naive += abs(f.mean() - truth) <= half
    assert held >= stats.binom.ppf(0.001, repetitions, 0.94)
    assert held > naive


def test_rates_near_their_end_are_not_overrated():
    """A few ties among clusters of losses, a judge that likes the row: nine in ten hold."""
    rng = np.random.default_rng(8)
    clusters = [f"c{i // 3}" for i in range(510)]
    repetitions, held = 200, 0
    for _ in range(repetitions):
        y = np.where(rng.random(510) < 0.034, 0.5, 0.0)
        f = rng.choice([0.0, 0.5, 1.0], p=[0.6, 0.3, 0.1], size=510)
        labels = np.where(np.arange(510) < 126, y, NAN)
        found = corrected(f, labels, clusters, resamples=400).rate
        held += found.low <= 0.017 <= found.high
        assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert held >= stats.binom.ppf(0.001, repetitions, 0.95)
