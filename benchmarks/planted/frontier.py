"""The best reward that any policy can have at a given distance from the base model.

Among all q with KL(q || p) = k the tilted law p(y) exp(strength * r(y)) / Z has the largest
E[r] (strength is 1/beta).  With several prompts, mean reward at a given mean KL is
largest when all prompts share one strength.  Here every answer is known;
what base samples say of the same is ``harness/report/frontier/estimator.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.planted.tree import divergence, expected

_HALVINGS = 52  # of an interval that starts within a factor of two: float64's precision
_STEEPEST = 1e9  # strength per unit of reward range at which a tilt is its own limit


@dataclass(frozen=True)
class Point:
    """Mean reward and mean KL(policy || base), in nats."""

    reward: float
    kl: float


def tilted(log_p: Tensor, rewards: Tensor, strength: float) -> Tensor:
    """Log of p(y) exp(strength * r(y)) / Z.  log_p, rewards [leaves]."""
    return (log_p + strength * (rewards - rewards.max())).log_softmax(-1)


@dataclass(frozen=True)
class Frontier:
    """The exact frontier of one or several prompts.

    laws     log p over each prompt's answers, [leaves] each.
    rewards  their rewards, [leaves] each.
    """

    laws: Sequence[Tensor]
    rewards: Sequence[Tensor]

    def at(self, strength: float) -> Point:
        """Give the optimal policy at one strength; 0 is the base model, inf the best answers."""
        points = []
        for log_p, r in zip(self.laws, self.rewards, strict=True):
            if math.isinf(strength):
                best = r == r[log_p > -torch.inf].max()
                q = log_p.masked_fill(~best, -torch.inf).log_softmax(-1)
            else:
                q = tilted(log_p, r, strength)
            points.append(Point(expected(q, r), divergence(q, log_p)))
        return mean(points)

    def curve(self, strengths: Iterable[float]) -> list[Point]:
        """Give the frontier's points at several strengths."""
        return [self.at(s) for s in strengths]

    def best(self, kl: float) -> float:
        """Give the largest mean reward at mean KL of at most ``kl`` nats."""
        ceiling = self.at(math.inf)
        if kl >= ceiling.kl:
            return ceiling.reward
        if kl <= 0.0:
            return self.at(0.0).reward
        spread = max(float(r.max() - r.min()) for r in self.rewards)
        low, high = 0.0, 1.0 / spread
        while self.at(high).kl < kl and high * spread < _STEEPEST:
            low, high = high, 2 * high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.at(middle).kl < kl else (low, middle)
        return self.at(high).reward

    def gap(self, point: Point) -> float:
        """Give how much reward a policy leaves on the table at the KL it spends."""
        return self.best(point.kl) - point.reward


def mean(points: Sequence[Point]) -> Point:
    """Average over prompts."""
    n = len(points)
    return Point(sum(p.reward for p in points) / n, sum(p.kl for p in points) / n)
