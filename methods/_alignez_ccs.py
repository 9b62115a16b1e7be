"""Contrast-consistent search: a probe learned from pairs without using their labels.

    p(h) = sigmoid(w.h + b)                                   p0 = p(h-), p1 = p(h+)
    L    = mean[(p0 - (1 - p1))^2] + mean[min(p0, p1)^2]

Burns et al. 2022, arXiv 2212.03827: AdamW, 1e-3, weight decay 0.01, 1000 full-batch
steps, 10 restarts, the lowest loss kept.  The best constant probe reaches 0.20 (at 0.4):
a probe near that has learned nothing.

Features are divided by one number per layer, their root mean square, so that losses of
different layers compare.  They are not centred by class: helpful and harmful states
differ by a class mean, and centring each class deletes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Centring = Literal["raw", "joint"]
Verdict = Literal["harmful", "helpful", "unusable"]
DEGENERATE = 0.18  # losses from here on are those of a probe that has learned nothing


def ccs_loss(p0: Tensor, p1: Tensor) -> Tensor:
    """Inconsistency plus lack of confidence; averages over the last axis."""
    return (p0 - (1 - p1)).square().mean(-1) + torch.minimum(p0, p1).square().mean(-1)


@dataclass(frozen=True)
class Probe:
    """The best probe of some restarts, on features as they are (scale and centre undone).

    weight   [width]; it is not a unit vector.
    loss     the value it ended with.
    """

    weight: Tensor
    bias: float
    loss: float

    def __call__(self, states: Tensor) -> Tensor:
        """Give p(h) of states [..., width]."""
        return torch.sigmoid(states.double() @ self.weight.double() + self.bias)

    @property
    def flipped(self) -> Probe:
        """The same probe with its two answers exchanged, which has the same loss."""
        return Probe(-self.weight, -self.bias, self.loss)

    def verdict(self, good: Tensor, bad: Tensor) -> Verdict:
        """Say which class the probe calls 1, by its answers at the class means."""
        helpful, harmful = float(self(good.mean(0))), float(self(bad.mean(0)))
        if self.loss >= DEGENERATE or (helpful > 0.5) == (harmful > 0.5):
            return "unusable"
        return "harmful" if harmful > 0.5 else "helpful"


def train_probe(
    good: Tensor,
    bad: Tensor,
    generator: torch.Generator,
    *,
    centring: Centring = "raw",
    restarts: int = 10,
    steps: int = 1000,
) -> Probe:
    """Learn a probe on pairs of states [pairs, width]; all restarts at once.

    AdamW works on each number by itself, so training the restarts together is
    training each alone.
    """
    good, bad = good.double(), bad.double()
    both = torch.cat([good, bad])
    centre = both.mean(0) if centring == "joint" else torch.zeros_like(both[0])
    scale = (both - centre).square().mean().sqrt().clamp_min(1e-12)
    x1, x0 = (((h - centre) / scale).float() for h in (good, bad))
    bound = good.shape[1] ** -0.5  # as a linear layer is born

    def born(*shape: int) -> nn.Parameter:
        return nn.Parameter((torch.rand(*shape, generator=generator) * 2 - 1) * bound)

    weight, bias = born(good.shape[1], restarts), born(restarts)
    optimiser = torch.optim.AdamW([weight, bias], lr=1e-3, weight_decay=0.01)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            losses = _losses(x0, x1, weight, bias)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.no_grad():
        losses = _losses(x0, x1, weight, bias)
        best = int(losses.argmin())
        raw = weight[:, best].double() / scale
        return Probe(raw, float(bias[best]) - float(raw @ centre), float(losses[best]))


def _losses(x0: Tensor, x1: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    p0, p1 = (torch.sigmoid(x @ weight + bias) for x in (x0, x1))
    return ccs_loss(p0.T, p1.T)


def harmful_direction(
    probe: Probe, good: Tensor, bad: Tensor, compat: str = "paper"
) -> tuple[Tensor, Verdict]:
    """Give the direction to remove, pointing at the harmful side, and how the probe stood.

    Zero where the probe is unusable; "as_released" also where its sign happened to
    come out helpful.
    """
    verdict = probe.verdict(good, bad)
    if verdict == "harmful":
        return probe.weight.float(), verdict
    if verdict == "helpful" and compat == "paper":
        return probe.flipped.weight.float(), verdict
    return torch.zeros_like(probe.weight, dtype=torch.float32), verdict
