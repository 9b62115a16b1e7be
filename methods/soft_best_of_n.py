"""Soft best-of-N: of N responses one is drawn, the likelier the better a reward model likes it.

    y_1 .. y_N ~ p(.|x)        y = y_i with probability softmax_i(r(x, y_i) / tau)

Verdun et al. 2025, "Soft Best-of-n Sampling for Model Alignment", arXiv 2505.03156.  tau -> 0
is best-of-N, tau -> infinity and N = 1 are p, and as N grows the law tends to the tilt
p(y) exp(r(x, y) / tau) / Z, the KL-regularised optimum.  It returns one of N draws, so
KL(. || p) <= log N.  That smoothing helps where the reward model errs: arXiv 2507.05913.

The draw is Gumbel's: the largest of r_i / tau + g_i, g_i = -log(-log u_i), has exactly this law.
u_i is the candidate's own, so neither batch size nor order changes an answer, and more
candidates only add to the fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import (
    Fitted,
    Kit,
    Method,
    Need,
    Rows,
    Search,
    Steering,
    at_least,
    best_of_each,
)


@dataclass(frozen=True)
class SoftBestOfN(Method):
    """Draws one of ``n`` candidates by its granted reward.

    tau  in units of reward: this reward model's own; 0 takes the best.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reward"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "tau": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0),
        "n": (2, 4, 8, 16, 32),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"n": 1}

    n: int = 8
    tau: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, n=1, tau=0)

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Search among whole responses, by chance."""
        choose = self.drawn if self.tau else None
        return Steering(search=Search(self.n, kit.reward.of_rows, choose=choose))

    def drawn(self, scores: Tensor, rows: Rows) -> Tensor:
        """Draw one candidate of each prompt: [prompts] indices."""
        # At position 0 of a stream of its own: rows of one batch may have ended at any length.
        uniform = rows.noise("soft best of n", rows.origin, rows.slot, 0)
        gumbel = -(-uniform.clamp(min=1e-300).log()).log()
        return best_of_each(scores.double() / self.tau + gumbel, rows)
