"""Speculative rejection: best-of-N that stops early on the candidates that look worst so far.

    start   b candidates of x, all alive
    at each checkpoint c_1 < c_2 < ... (tokens drawn)
        score every candidate, finished or not, by r(x, y^t)
        keep the round((1 - alpha) count) best of them; an unfinished one that is not kept stops
    answer  the finished candidate of the largest r(x, y)

Sun et al. 2024, "Fast Best-of-N Decoding via Speculative Rejection", arXiv 2410.20290
(NeurIPS 2024).  With R equal rounds and no early ends the tokens drawn are a share
sum_{i<R} (1 - alpha)^i / R of best-of-b's: 0.469 for alpha = 1/2 and R = 4.

Rejecting forks nothing, so a survivor keeps its luck: the answer is one of best-of-b's own b
candidates, and KL(. || p) <= log b.

Where the published code does otherwise: it scores when memory is nearly full and starts with
as many candidates as memory holds, so its answers depend on the GPU; here checkpoints and b
are given.  After every round it decodes, re-tokenises and truncates the survivors, and its
reward model reads them anew; here both models go on from their caches.  A partial text is
closed as the reward model's template closes an answer.  methods/cards/speculative_rejection.md
has the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Fitted, Kit, Method, Need, PlumblineError, Rows, Search, Steering, at_least


@dataclass(frozen=True)
class SpeculativeRejection(Method):
    """Draws ``n`` candidates and rejects a share ``alpha`` of them at every checkpoint.

    n            candidates at the start (the paper's b).
    alpha        share rejected at a checkpoint; 0 is best-of-n.
    checkpoints  tokens drawn at which to reject, rising; those beyond the budget never come.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reward"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "n": (4, 8, 16, 32),
        "alpha": (0.25, 0.5, 0.75),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"n": 1}

    n: int = 16
    alpha: float = 0.5
    checkpoints: tuple[int, ...] = (16, 32, 48, 64, 128, 256, 512)

    def __post_init__(self) -> None:
        at_least(self, n=1)
        if not 0 <= self.alpha < 1:
            raise PlumblineError(
                f"speculative_rejection.alpha is {self.alpha}; it must lie in [0, 1)"
            )
        marks = self.checkpoints
        if any(mark < 1 for mark in marks) or list(marks) != sorted(set(marks)):
            raise PlumblineError(
                f"speculative_rejection.checkpoints is {marks}; it must rise, from 1 token or more"
            )

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Search among whole responses, rejecting on the way."""
        return Steering(
            search=Search(
                width=self.n,
                score=kit.reward.of_growing(kit.model),
                blocks=self.checkpoints,
                select=self.kept,
                forks=False,
            )
        )

    def kept(self, scores: Tensor, rows: Rows) -> Tensor:
        """Give the rows that go on, and all that have ended: [kept] indices.

        What has ended costs nothing more and may still be the answer.  Ties go to the
        candidate drawn first.
        """
        stay = []
        for prompt in sorted(set(rows.origin.tolist())):
            mine = (rows.origin == prompt).nonzero().flatten().tolist()
            ranked = sorted(mine, key=lambda i: (-float(scores[i]), int(rows.slot[i])))
            count = max(1, round((1 - self.alpha) * len(ranked)))
            over = [i for i in ranked[count:] if bool(rows.finished[i])]
            stay += [*ranked[:count], *over]
        return torch.tensor(stay, device=scores.device)
