"""Oracle best-of-N: best-of-N by the evaluation reward itself; a ceiling for selection.

    y* = argmax_{y_1..y_N ~ p(.|x)} r*(x, y_i)      r* = what the table measures

No method may use r*; this row shows how much selection among N could gain with a
perfect reward model, so the gap to ``best_of_n`` is the reward model's fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.api import Fitted, Kit, Method, Need, Search, Steering, at_least


@dataclass(frozen=True)
class OracleBestOfN(Method):
    """Keeps the best of ``n`` candidates by the evaluation reward."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gold"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {"n": (2, 4, 8, 16, 32)}
    neutral: ClassVar[Mapping[str, object] | None] = {"n": 1}

    n: int = 8

    def __post_init__(self) -> None:
        at_least(self, n=1)

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Search among whole responses; under "gold" the kit's reward is the evaluation reward."""
        return Steering(search=Search(width=self.n, score=kit.reward.of_rows))
