"""Agreement of verdicts with labels and with themselves."""

import math

import pytest

from harness.judging.agreement import both_orders, kappa


def test_kappa_takes_agreement_by_chance_off():
    """35 of 50 agree, 25 would by chance: 0.4."""
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert kappa(first, second) == pytest.approx(0.4)


def test_kappa_of_a_single_label_is_undefined():
    """Where both columns say one thing only, chance explains everything."""
    assert math.isnan(kappa(["y"] * 3, ["y"] * 3))
    assert math.isnan(kappa([], []))


def test_a_missing_verdict_is_a_label_of_its_own():
    """None agrees with None and with nothing else."""
    ours = both_orders(["1", "2", "2"], ["1", None, "2"], ["1", None, None])
    assert (ours.right, ours.right_swapped, ours.right_both, ours.consistent) == (2, 1, 1, 2)
