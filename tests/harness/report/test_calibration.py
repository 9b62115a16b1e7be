import json

import pytest

from harness.report.calibration import Judged, agreement


def pair(label, orders, longer=0.5, outcome="ok"):
    """One labelled pair as judged."""
    return Judged(label, orders, outcome, longer)


def test_agreement_counts_every_pair():
    """A split is no agreement with a winner; a pair without a verdict enters no share."""
    judged = [
        pair(1.0, (1.0, 1.0)),
        pair(1.0, (1.0, 0.0)),
        pair(0.0, (0.0, 0.0)),
        pair(0.0, (1.0, 1.0)),
        pair(1.0, (None, 1.0), outcome="unparsed"),
        pair(1.0, (None, None), outcome="failed"),
    ]
    found = agreement(judged)
    assert (found.pairs, found.no_verdict) == (6, {"failed": 1, "unparsed": 1})
    assert (found.agreement.value, found.agreement.n) == (0.5, 4)
    assert (found.first_order.value, found.first_order.n) == (0.75, 4)
    assert (found.flips.value, found.flips.n) == (0.25, 4)
    assert (found.decided.value, found.decided.n) == (pytest.approx(2 / 3), 3)
    assert found.base_rate == 0.5


def test_a_judge_that_always_takes_the_first_is_found_out():
    """It flips every pair, stands with the first answer, and agrees with nobody."""
    found = agreement([pair(float(i % 2), (1.0, 0.0)) for i in range(10)])
    assert found.flips.value == found.first.value == 1.0
    assert found.agreement.value == 0.0
    assert found.kappa == pytest.approx(0.0)


def test_a_tie_in_one_order_is_a_flip_and_no_reversal():
    """Two verdicts that differ are a flip; only opposite winners are a reversal."""
    found = agreement([pair(1.0, (1.0, 0.5)), pair(1.0, (1.0, 0.0)), pair(0.0, (0.0, 0.0))])
    assert found.flips.value == pytest.approx(2 / 3)
    assert found.reversed.value == pytest.approx(1 / 3)


def test_a_taste_for_length_stands_beside_the_labels_own():
    """Share of verdicts for the longer answer, next to the labels' share."""
    judged = [pair(1.0, (1.0, 1.0), longer=1.0), pair(0.0, (1.0, 1.0), longer=1.0)]
    judged += [pair(1.0, (0.5, 0.5), longer=0.0, outcome="tie")]
    found = agreement(judged)
    assert (found.longer.value, found.longer.n) == (1.0, 2)
    assert found.longer_by_label.value == pytest.approx(1 / 3)


def test_repeated_questions():
    """Three of four repeated questions got the verdict they had."""
    found = agreement([], [(1.0, 1.0), (0.0, 0.0), (0.5, 1.0), (None, None)])
    assert found.repeated.value == 0.75
    assert found.repeated.n == 4


def test_what_is_no_number_is_stored_as_null():
    """The stored form is plain JSON: nothing asked twice is null, not NaN."""
    stored = agreement([pair(1.0, (1.0,))]).to_json()
    assert stored["repeated"]["value"] is None
    assert stored["flips"]["n"] == 0
    json.dumps(stored, allow_nan=False)
