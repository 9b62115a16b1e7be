"""Less data for one row: ``name(fraction=0.05)``, for any method that learns from pairs.

The pairs of a smaller fraction lie among those of a larger one: both are the first so many
in one order, which the fit's seed draws.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import fields

from harness.contracts.method import Method
from harness.errors import PlumblineError
from harness.records import Preference

FIELD = "fraction"


def nested(pairs: Sequence[Preference], fraction: float, seed: int) -> Sequence[Preference]:
    """Give the first ceil(fraction x n) pairs in the seed's order; all, as they are, at 1.

    Raises PlumblineError where that is not a single pair.
    """
    if fraction == 1:
        return pairs
    if not pairs:
        raise PlumblineError(f"a fraction of {fraction:g} was asked for, and there are no pairs")
    order = list(range(len(pairs)))
    random.Random(f"fraction {seed}").shuffle(order)
    return [pairs[i] for i in order[: count(len(pairs), fraction)]]


def count(pairs: int, fraction: float) -> int:
    """Say how many of so many pairs a fraction is: rounded up, 7 % of 100 being 7."""
    return math.ceil(round(fraction * pairs, 6))


def taken(cls: type[Method], name: str, given: dict[str, str]) -> float:
    """Take the row's fraction out of a method's fields; 1 where it has none.

    A method with a field of that name keeps it.  Raises PlumblineError for a method that
    learns from no pairs, and for a share outside (0, 1].
    """
    if FIELD not in given or FIELD in {f.name for f in fields(cls)}:
        return 1.0
    if "pairs" not in cls.needs:
        raise PlumblineError(f"{name}.{FIELD}: {name} learns from no pairs, so it takes no share")
    return share(given.pop(FIELD), f"{name}.{FIELD}")


def share(text: str, where: str) -> float:
    """Read a share of the pairs; raises PlumblineError for anything outside (0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise PlumblineError(
            f"{where}={text}: it must be more than 0 and at most 1, such as 0.05; "
            "0 would leave no pairs"
        )
    return value
