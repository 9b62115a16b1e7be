"""What a method's numbers may be: checked when it is made, refused in one line worded alike."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import PlumblineError

if TYPE_CHECKING:
    from harness.contracts.method import Method


def at_least(method: Method, **least: float) -> None:
    """Refuse a field below its least value; one left open (None) passes, here and below."""
    for name, floor in least.items():
        value = getattr(method, name)
        if value is not None and not value >= floor:
            raise _refusal(method, name, f"{floor} or more")


def above(method: Method, **floors: float) -> None:
    """Refuse a field that does not lie above its bound."""
    for name, floor in floors.items():
        value = getattr(method, name)
        if value is not None and not value > floor:
            raise _refusal(method, name, f"above {floor}")


def finite(method: Method, *names: str) -> None:
    """Refuse infinities, and what is no number."""
    for name in names:
        value = getattr(method, name)
        if value is not None and not math.isfinite(value):
            raise _refusal(method, name, "a finite number")


def _refusal(method: Method, name: str, accepted: str) -> PlumblineError:
    file = Path(inspect.getfile(type(method))).stem
    return PlumblineError(f"{file}.{name} is {getattr(method, name)}; it must be {accepted}")
