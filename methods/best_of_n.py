"""Best-of-N: sample N responses, keep the one a reward model likes best.

    y* = argmax_{y_1..y_N ~ p(.|x)} r(x, y_i)          KL(best-of-N || p) <= log N - (N-1)/N

Stiennon et al. 2020, arXiv 2009.01325; Nakano et al. 2021, arXiv 2112.09332.
The bound, and why it is one: Beirami et al. 2024, arXiv 2401.01879.

One prefill is shared by the N candidates.  Every candidate is kept, so the whole
curve over n <= N is read off one pool:

    E[max of n] = sum_{i=n..N} r_(i) C(i-1, n-1) / C(N, n)      (r ascending, unbiased)

Under a greedy protocol candidates are drawn as [sampling.search] says
(temperature 1 by default): N greedy answers would be one answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.api import Fitted, Kit, Method, Need, Search, Steering, at_least


@dataclass(frozen=True)
class BestOfN(Method):
    """Keeps the best of ``n`` candidates by the granted reward model."""

    needs: ClassVar[frozenset[Need]] = frozenset({"reward"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {"n": (2, 4, 8, 16, 32)}
    neutral: ClassVar[Mapping[str, object] | None] = {"n": 1}

    n: int = 8

    def __post_init__(self) -> None:
        at_least(self, n=1)

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Search among whole responses."""
        return Steering(search=Search(width=self.n, score=kit.reward.of_rows))
