"""The running total of a run's cost."""

import json
import time

import pytest

from harness.ledger import Ledger, peak_memory


def test_calls_add_up_by_role():
    """Tokens and calls are kept apart for each model."""
    ledger = Ledger()
    ledger.count("policy", 10)
    ledger.count("policy", 5)
    ledger.count("reward", 7, forwards=2)
    assert ledger.tokens == {"policy": 15, "reward": 7}
    assert ledger.forwards == {"policy": 2, "reward": 2}


def test_time_is_added_by_phase_even_when_a_phase_fails():
    """Seconds accumulate; an exception passes through and is still timed."""
    ledger = Ledger()
    with ledger.timed("decode"):
        time.sleep(0.01)
    first = ledger.seconds["decode"]
    assert 0.01 <= first < 1
    with pytest.raises(ZeroDivisionError), ledger.timed("decode"):
        raise ZeroDivisionError
    assert ledger.seconds["decode"] > first
    assert ledger.peak >= 1 << 20


def test_two_ledgers_add_up():
    """Amounts are summed, the peak is the larger."""
    one = Ledger({"policy": 1}, {"policy": 1}, {"fit": 1.0}, 10)
    one += Ledger({"policy": 2, "reward": 3}, {"reward": 4}, {"fit": 0.5, "decode": 2.0}, 5)
    assert one == Ledger(
        {"policy": 3, "reward": 3}, {"policy": 1, "reward": 4}, {"fit": 1.5, "decode": 2.0}, 10
    )


def test_adding_leaves_the_other_ledger_alone():
    """The sum shares nothing with what was added."""
    part = Ledger({"policy": 1}, {"policy": 1}, {"fit": 1.0}, 10)
    total = Ledger()
    total += part
    total.count("policy", 5)
    assert part.tokens == {"policy": 1}


def test_a_ledger_survives_a_line():
    """What is stored is what is read back."""
    ledger = Ledger({"policy": 3}, {"policy": 1}, {"fit": 1.5}, 10)
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger


def test_the_peak_is_in_bytes():
    """This process holds more than a megabyte and less than a terabyte."""
    assert 1 << 20 < peak_memory() < 1 << 40
