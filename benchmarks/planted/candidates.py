"""The exact law of an answer chosen among candidates drawn from a known law.

The candidates are independent, so the law follows from the law of one of them: nothing is
sampled and no tuple of candidates is listed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEP = 0.1  # of the integral over log t; the error is about exp(-pi**2 / STEP)


def best_of(log_p: Tensor, score: Tensor, n: int) -> Tensor:
    """Log law of the best of ``n`` candidates; of equal scores the earlier one is taken.

    With F the mass of scores up to r(y) and G the mass of scores equal to it,

        q(y) = p(y) (F^n - (F - G)^n) / G

    since the earliest of the tied candidates is distributed as p among them.  It keeps
    KL(q || p) <= log n - (n-1)/n (Beirami et al. 2024, arXiv 2401.01879).
    log_p, score [answers].
    """
    levels, group = score.unique(sorted=True, return_inverse=True)  # type: ignore[no-untyped-call]
    tied = torch.zeros(len(levels), dtype=torch.float64).index_add_(0, group, log_p.exp())
    up_to = tied.cumsum(0)
    share = (tied / up_to).nan_to_num(0.0).clamp(max=1.0)
    # F^n - (F-G)^n written so that a tiny group loses no digits.
    ratio = n * up_to.log() + torch.log(-torch.expm1(n * torch.log1p(-share))) - tied.log()
    return (log_p + ratio[group]).masked_fill(log_p == -torch.inf, -torch.inf)


def soft_best_of(log_p: Tensor, score: Tensor, n: int, temperature: float) -> Tensor:
    """Log law of one of ``n`` candidates picked with probability ~ exp(score / temperature).

    With w = exp(score / temperature) and phi(t) = E_p[exp(-t w)], writing 1 / sum_i w_i as
    an integral gives

        q(y) = n p(y) w(y) * integral_0^inf exp(-t w(y)) phi(t)^(n-1) dt,

    a smooth integral over u = log t for which the trapezoid rule converges geometrically.
    Soft best-of-n: arXiv 2505.03156.  log_p, score [answers].
    """
    tilt = (score - score.max()) / temperature
    low = float(tilt.min())
    u = torch.arange(-40.0, 6.0 - low, STEP, dtype=torch.float64)
    decay = -torch.exp(u[:, None] + tilt[None, :])  # -t w, [steps, answers]
    log_phi = torch.logsumexp(log_p[None, :] + decay, dim=1)
    terms = u[:, None] + tilt[None, :] + decay + (n - 1) * log_phi[:, None]
    return log_p + math.log(n * STEP) + torch.logsumexp(terms, dim=0)


def divergence_bound(n: int) -> float:
    """Largest KL(best of n || base), in nats."""
    return math.log(n) - (n - 1) / n
