import json
import math

import numpy as np
import pytest

from harness.report.agreement import Judged, agreement, kappa


def pair(label, orders, longer=0.5, outcome="ok"):
    """One labelled pair as judged."""
    return Judged(label, orders, outcome, longer)


def test_kappa_by_hand():
    """20 of 25 agree where chance agrees in half: Cohen's textbook table."""
    a = [1] * 15 + [0] * 10
    b = [1] * 13 + [0] * 2 + [1] * 3 + [0] * 7
    chance = (15 * 16 + 10 * 9) / 625
    assert kappa(a, b) == pytest.approx((0.8 - chance) / (1 - chance))


def test_kappa_at_its_ends():
    """Full agreement is 1, independence 0, and one label only is no kappa."""
    a = np.tile([0, 1], 50).tolist()
    assert kappa(a, a) == 1.0
    assert kappa(a, np.repeat([0, 1], 50).tolist()) == pytest.approx(0.0)
    assert math.isnan(kappa([1, 1], [1, 1]))
    assert math.isnan(kappa([], []))


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
    assert found.base_rate == 0.5


def test_a_judge_that_always_takes_the_first_is_found_out():
    """It flips every pair, stands with the first answer, and agrees with nobody."""
    found = agreement([pair(float(i % 2), (1.0, 0.0)) for i in range(10)])
    assert found.flips.value == found.first.value == 1.0
    assert found.agreement.value == 0.0
    assert found.kappa == pytest.approx(0.0)


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
