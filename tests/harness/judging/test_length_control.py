"""Length-adjusted win rates."""

import numpy as np
import pytest

from harness.errors import PlumblineError
from harness.judging import length_control
from harness.judging.length_control import Coefficients


def test_prediction_is_the_mean_over_items_at_equal_length():
    """Logistic of model + weight * difficulty, in points."""
    rate = length_control.predicted(Coefficients(-9.0, 1.0, 0.0), [0.0, np.log(3)])
    assert rate == pytest.approx(100 * (0.5 + 0.75) / 2)


def test_a_planted_taste_for_length_is_taken_out():
    """Longer answers win only for their length: adjusted, the model is even with its baseline."""
    rng = np.random.default_rng(0)
    ours = rng.integers(900, 3000, 4000)
    base = rng.integers(100, 2000, 4000)
    gap = (base - ours) / np.std(base - ours, ddof=1)
    p = 1 / (1 + np.exp(1.5 * np.tanh(gap)))
    preferences = [float(x) for x in 1 + (rng.random(4000) < p)]
    raw = 100 * (np.mean(preferences) - 1)
    adjusted = length_control.refit(preferences, list(base), list(ours))
    assert raw > 65
    assert abs(adjusted.rate - 50) < 3 * adjusted.standard_error < 9
    assert adjusted.coefficients.length == pytest.approx(-1.5, abs=0.2)


def test_unanimous_verdicts_and_equal_lengths_give_a_rate():
    """All wins, all lengths alike: the fit still ends, near a hundred."""
    assert 95 < length_control.refit([2.0] * 50, [10] * 50, [10] * 50).rate <= 100


def test_columns_must_match_and_hold_a_verdict():
    """Both mistakes are named."""
    with pytest.raises(PlumblineError, match="columns of one length"):
        length_control.refit([1.0, 2.0], [1], [1])
    with pytest.raises(PlumblineError, match="at least one verdict"):
        length_control.refit([None], [1], [1])


def test_a_table_that_is_none_is_named(tmp_path):
    """The missing column is in the message."""
    path = tmp_path / "weights.csv"
    path.write_text(",length\nm,1\n")
    with pytest.raises(PlumblineError, match="no table of length-control coefficients"):
        length_control.read_coefficients(path)
