"""Directions that separate preferred states from rejected ones; shared by representation edits.

Each function takes states of the preferred and of the rejected answers, row i of both being
one pair, and returns a unit vector that points from rejected to preferred:

    mean        v = mean(h+ - h-)                                  CAA, arXiv 2312.06681
    pca         first principal component of s_i (h+_i - h-_i), s_i = +-1 drawn: the pairs in
                shuffled order, mean-centred, the sign taken from the labels
                                                                   RepE, arXiv 2310.01405
    probe       weights of a logistic regression of the label on the state
                                                                   ITI, arXiv 2306.03341
    regression  weights of a ridge regression of the reward on the state
                                                                   the baseline "Static RE" of
                                                                   RE-CONTROL, arXiv 2406.05954
    random      a negative control

Computed in float64 on the CPU, so that a direction does not depend on the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from harness.api import PlumblineError

FEWEST = 8  # pairs: below this a direction is the noise of its pairs
RIDGE = 1e-2  # of the probe and the regression, in units of the states' mean square
STEPS = 50  # Newton steps of the probe at most; it stops long before


def enough(pairs: int, dropped: Mapping[str, int] | None = None) -> None:
    """Refuse fewer pairs than a direction needs; ``dropped`` says what became of the others."""
    if pairs < FEWEST:
        why = "; ".join(f"{count} with {reason}" for reason, count in (dropped or {}).items())
        raise PlumblineError(
            f"a direction needs {FEWEST} usable pairs or more; there are {pairs}"
            + (f" (left out: {why})" if why else "")
        )


def checked(good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
    """Give both as float64 on the CPU; refuses too few pairs, pairs all alike, and NaN.

    good, bad  [pairs, width].
    """
    enough(len(good))
    good, bad = good.double().cpu(), bad.double().cpu()
    if not bool(torch.isfinite(good).all() and torch.isfinite(bad).all()):
        raise PlumblineError("a state that a direction is fitted on is NaN or infinite")
    if bool((good == bad).all()):
        raise PlumblineError(
            "the two answers of every pair have the same states, so no direction separates them"
        )
    return good, bad


def unit(vector: Tensor, what: str) -> Tensor:
    """Scale to length 1; raises PlumblineError for a vector of length 0 or NaN."""
    norm = float(torch.linalg.vector_norm(vector))
    if not 1e-12 < norm < math.inf:
        raise PlumblineError(f"the {what} direction has length {norm:g}, so it points nowhere")
    return vector / norm


def mean_difference(good: Tensor, bad: Tensor) -> Tensor:
    """Give mean(h+ - h-) with its own length: [width]."""
    good, bad = checked(good, bad)
    return (good - bad).mean(0)


def mean_direction(good: Tensor, bad: Tensor) -> Tensor:
    """Give the direction of the mean difference: [width]."""
    return unit(mean_difference(good, bad), "mean-difference")


def pca_direction(good: Tensor, bad: Tensor, seed: int) -> Tensor:
    """Give the first principal component of the paired differences in shuffled order: [width]."""
    good, bad = checked(good, bad)
    rng = torch.Generator().manual_seed(seed)
    signs = 2.0 * torch.randint(0, 2, (len(good), 1), generator=rng).double() - 1
    rows = signs * (good - bad)
    rows = rows - rows.mean(0)
    first = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return unit(towards(first, good, bad), "principal")


def probe(good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a ridge-penalised logistic regression by Newton's method: weights [width], bias [].

    Solved in the span of the states where there are fewer of them than dimensions.
    """
    good, bad = checked(good, bad)
    states = torch.cat([good, bad])
    labels = torch.cat([torch.ones(len(good)), torch.zeros(len(bad))]).double()
    centre = states.mean(0)
    x = states - centre
    span = torch.linalg.qr(x.T).Q if len(x) < x.shape[1] else None
    x = x if span is None else x @ span
    penalty = RIDGE * float(x.square().sum(-1).mean()) * torch.eye(x.shape[1] + 1).double()
    penalty[-1, -1] = 0.0  # the bias is free
    x = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    w = torch.zeros(x.shape[1]).double()
    for _ in range(STEPS):
        p = (x @ w).sigmoid()
        curvature = x.T @ ((p * (1 - p)).clamp_min(1e-9)[:, None] * x) + penalty
        step = torch.linalg.solve(curvature, x.T @ (p - labels) + penalty @ w)
        w = w - step
        if float(step.abs().max()) < 1e-9 * (1 + float(w.abs().max())):
            break
    weights = w[:-1] if span is None else span @ w[:-1]
    return weights, w[-1] - weights @ centre


def probe_direction(good: Tensor, bad: Tensor) -> Tensor:
    """Give the direction of the probe's weights: [width]."""
    return unit(probe(good, bad)[0], "probe")


def accuracy(good: Tensor, bad: Tensor, held_good: Tensor, held_bad: Tensor) -> float:
    """Give the share of held-out states that a probe fitted on the others labels rightly."""
    weights, bias = probe(good, bad)
    right = (held_good.double().cpu() @ weights + bias > 0).double().mean()
    wrong = (held_bad.double().cpu() @ weights + bias > 0).double().mean()
    return float(right + 1 - wrong) / 2


def regression_direction(states: Tensor, rewards: Tensor) -> Tensor:
    """Give the direction of a ridge regression of rewards [n] on states [n, width]."""
    if len(states) < FEWEST:
        raise PlumblineError(f"a regression needs {FEWEST} states; there are {len(states)}")
    if not bool(torch.isfinite(rewards).all()):
        raise PlumblineError("a reward that a direction is fitted on is NaN or infinite")
    x, y = states.double().cpu(), rewards.double().cpu()
    x, y = x - x.mean(0), y - y.mean()
    penalty = (
        RIDGE
        * x.square().sum(-1).mean()
        * torch.eye(len(x) if len(x) < x.shape[1] else x.shape[1]).double()
    )
    if len(x) < x.shape[1]:
        weights = x.T @ torch.linalg.solve(x @ x.T + penalty, y)
    else:
        weights = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
    return unit(weights, "regression")


def random_direction(width: int, seed: int, number: int) -> Tensor:
    """Draw a direction uniformly: [width]; ``number`` tells several of one seed apart."""
    rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
    return unit(torch.randn(width, generator=rng, dtype=torch.float64), "random")


def towards(vector: Tensor, good: Tensor, bad: Tensor) -> Tensor:
    """Turn a vector so that preferred states lie further along it than rejected ones."""
    along = (good.double().cpu() - bad.double().cpu()).mean(0) @ vector
    return -vector if float(along) < 0 else vector
