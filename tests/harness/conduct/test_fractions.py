"""A share of the pairs: nested, drawn by the seed, and refused where it makes no sense."""

from itertools import pairwise

import pytest

from harness.chat import Chat
from harness.conduct import fractions
from harness.conduct.fitting import described
from harness.conduct.stacks import stacks
from harness.errors import PlumblineError
from harness.records import Preference

PAIRS = tuple(Preference(f"p{i}", Chat.of(f"q{i}"), "yes", "no") for i in range(100))
SHARES = (0.01, 0.05, 0.10, 0.25, 1.0)


def _ids(fraction, seed=0):
    return [pair.id for pair in fractions.nested(PAIRS, fraction, seed)]


def test_smaller_shares_lie_in_larger_ones():
    """Every share's pairs are the first of the next larger share's, and none is there twice."""
    taken = [_ids(share) for share in SHARES[:-1]]
    assert [len(ids) for ids in taken] == [1, 5, 10, 25]
    for small, large in pairwise(taken):
        assert large[: len(small)] == small
    assert all(len(set(ids)) == len(ids) for ids in taken)
    assert set(taken[-1]) <= set(_ids(1.0))


def test_the_whole_is_left_as_it_is():
    """At 1 a method gets the protocol's pairs in the protocol's order."""
    assert fractions.nested(PAIRS, 1.0, 3) is PAIRS


def test_the_order_is_the_seed_s():
    """One seed draws one order, another seed another."""
    assert _ids(0.25, seed=1) == _ids(0.25, seed=1)
    assert _ids(0.25, seed=1) != _ids(0.25, seed=2)
    assert _ids(0.25) != [f"p{i}" for i in range(25)]


@pytest.mark.parametrize(
    ("pairs", "share", "expected"),
    [(100, 0.07, 7), (2048, 0.01, 21), (2048, 0.25, 512), (3, 0.1, 1)],
)
def test_shares_are_rounded_up(pairs, share, expected):
    """A share is rounded up to whole pairs, and rounding of its own does not add one."""
    assert fractions.count(pairs, share) == expected


def test_no_pairs_are_refused():
    """A share of nothing is one clear line."""
    with pytest.raises(PlumblineError, match="there are no pairs"):
        fractions.nested((), 0.5, 0)


@pytest.mark.parametrize("written", ["0", "-0.1", "1.5", "nan", "half"])
def test_a_share_that_is_none_is_refused(written):
    """Zero pairs, more than all, and no number at all are refused before anything is loaded."""
    with pytest.raises(PlumblineError, match=r"static_editing\.fraction=.*more than 0 and at most"):
        stacks(f"static_editing(fraction={written})")


def test_a_method_without_pairs_takes_no_share():
    """A method that learns from no pairs refuses a share of them."""
    with pytest.raises(PlumblineError, match="prompting learns from no pairs"):
        stacks("prompting(fraction=0.5)")


def test_a_share_belongs_to_the_row():
    """It stands in the label and in what a fit is stored under; a full share leaves no trace."""
    (row,) = stacks("prompting+dpo(fraction=0.05)")
    part = row.parts[1]
    assert (part.fraction, part.label) == (0.05, "dpo(fraction=0.05)")
    assert row.label == "prompting+dpo(fraction=0.05)"
    (whole,) = stacks("dpo(fraction=1.0)")
    assert whole.label == "dpo"
    assert described(part)["fraction"] == 0.05
    assert "fraction" not in described(whole.parts[0])


def test_a_share_can_be_set_for_all_rows():
    """``SET=`` gives every row of a method its share."""
    (row,) = stacks("dpo(beta=0.3)", "dpo.fraction=0.1")
    assert row.label == "dpo(fraction=0.1,beta=0.3)"
