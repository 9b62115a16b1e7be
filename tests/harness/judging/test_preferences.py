"""AlpacaEval's counts."""

import math

import pytest

from harness.errors import PlumblineError
from harness.judging.preferences import head_to_head


def test_draws_failures_and_weighed_verdicts():
    """0 and 1.5 are draws, None enters nowhere, a weighed verdict counts by its share."""
    ours = head_to_head([1, 2, 0, 1.5, None, 1.75])
    assert (ours.wins, ours.wins_base, ours.draws, ours.total, ours.unjudged) == (2, 1, 2, 5, 1)
    assert ours.win_rate == pytest.approx(100 * (0 + 1 + 0.5 + 0.5 + 0.75) / 5)
    assert ours.discrete_win_rate == pytest.approx(100 * (2 + 1) / 5)


def test_no_verdict_gives_no_rate():
    """Without a verdict there is no number, not a zero."""
    ours = head_to_head([None, None])
    assert math.isnan(ours.win_rate)
    assert (ours.total, ours.unjudged) == (0, 2)


@pytest.mark.parametrize("wrong", [3.0, 0.5, -1.0])
def test_a_preference_out_of_range_is_refused(wrong):
    """It is named by its place."""
    with pytest.raises(PlumblineError, match="preference 2 is"):
        head_to_head([1, wrong])
