"""Bounds of a method's numbers: what passes, and the one line that refuses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from harness.api import Fitted, Kit, Method, PlumblineError, Steering, above, at_least, finite


@dataclass(frozen=True)
class Knobs(Method):
    """Three numbers, each bounded in another way."""

    count: int | None = 1
    rate: float | None = 0.1
    strength: float | None = 0.0

    def __post_init__(self) -> None:
        at_least(self, count=1)
        above(self, rate=0)
        finite(self, "strength")

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Touch nothing."""
        return Steering()


def test_what_lies_within_passes_and_so_does_what_is_left_open() -> None:
    """The bound of at_least is itself allowed; None means that the method decides."""
    assert Knobs(count=1, rate=1e-9, strength=-3.0).count == 1
    assert Knobs(count=None, rate=None, strength=None).rate is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 0}, r"test_bounds\.count is 0; it must be 1 or more"),
        ({"count": math.nan}, r"count is nan; it must be 1 or more"),
        ({"rate": 0.0}, r"test_bounds\.rate is 0\.0; it must be above 0"),
        ({"rate": math.nan}, r"rate is nan; it must be above 0"),
        ({"strength": math.inf}, r"test_bounds\.strength is inf; it must be a finite number"),
    ],
)
def test_what_lies_outside_is_refused_by_the_name_of_the_method_and_field(
    fields: dict[str, float], message: str
) -> None:
    """One line says which field of which method, its value, and what is accepted."""
    with pytest.raises(PlumblineError, match=message):
        Knobs(**fields)  # type: ignore[arg-type]
