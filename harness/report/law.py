"""How alignment and capability move with strength: lines, parabolas, and how sure either is.

    A(c) = a0 + a1 c              alignment, to first order along an aligned direction
    H(c) = h0 - h2 c^2            capability, whose first order averages out

Wolf et al. 2024, "Tradeoffs Between Alignment and Helpfulness in Language Models with
Representation Engineering", arXiv 2401.16332.  Free exponents are fitted too,
log|A(c) - A(0)| ~ n_A log c and log|H(c) - H(0)| ~ n_H log c: the law holds where the interval
of n_A includes 1 and that of n_H includes 2.

Where every strength was run with its opposite, even and odd parts are told apart: n_A is read
off the odd part of A, n_H off the even part of H, on the largest |c| for which A is odd (its
even part below a tenth of the odd one), and H's odd part must not be significant.  Otherwise
the differences to c = 0 stand for them, on the smaller half of the strengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.errors import PlumblineError
from harness.report.statistics import Array, identity_seed, interval

RESAMPLES = 1000
ODD = 0.1  # largest |even part of A| / |odd part of A| inside the window
FORMS: dict[str, tuple[int, ...]] = {
    "constant": (),
    "linear": (1,),
    "quadratic": (2,),
    "linear + quadratic": (1, 2),
}


@dataclass(frozen=True)
class Readings:
    """What was read at each strength.

    c  [strengths], rising, 0 among them.
    alignment, capability  [strengths, items].
    """

    c: Array
    alignment: Array
    capability: Array


@dataclass(frozen=True)
class Fit:
    """A fitted number and its 95 % interval."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def includes(self, number: float) -> bool:
        """Say whether the interval includes a number; False where there is none."""
        return self.low <= number <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Law:
    """What was fitted.

    window     largest |c| that entered; points: strengths inside it, 0 left out.
    two_sided  True where every strength has its opposite.
    best_a, best_h  the form of least leave-one-strength-out error, over all strengths.
    odd_h      odd part of H at the window's edge, against which H is to be even; NaN one-sided.
    efficient  c* = a1 / (2 h2), where A + H is largest under the law; NaN where h2 <= 0.
    """

    window: float
    points: int
    two_sided: bool
    slope: Fit
    curvature: Fit
    n_a: Fit
    n_h: Fit
    odd_h: Fit
    best_a: str
    best_h: str
    efficient: float

    @property
    def holds(self) -> bool:
        """Say whether alignment is linear and capability quadratic, as far as can be told."""
        even = not self.two_sided or self.odd_h.includes(0)
        return self.n_a.includes(1) and self.n_h.includes(2) and even


def law(read: Readings, *, resamples: int = RESAMPLES) -> Law:
    """Fit the law, with intervals over items.

    Raises PlumblineError without a strength of 0, or with fewer than two others to fit on.
    """
    c = read.c
    if 0 not in c.tolist():
        raise PlumblineError("a law is fitted around strength 0, which is not among the values")
    two_sided = bool(np.allclose(np.sort(-c), np.sort(c))) and len(c) > 3
    at, odd_a, even_h, odd_h, inside = _parts(read, two_sided)
    if inside.sum() < 2:
        raise PlumblineError("fewer than two strengths lie where alignment is odd in strength")
    at, odd_a, even_h = at[inside], odd_a[inside], even_h[inside]
    items = read.alignment.shape[1]
    rng = np.random.default_rng(identity_seed("law", *map(str, c.tolist()), str(items)))
    draws = rng.multinomial(items, np.full(items, 1 / items), size=resamples) / items

    def fitted(of: Callable[[Array, Array], Array], values: Array) -> Fit:
        """Apply ``of`` (strengths, means [strengths, columns]) to the mean and to resamples."""
        value = float(of(at, values.mean(1, keepdims=True))[0])
        return Fit(value, *interval(of(at, values @ draws.T), items))

    slope = fitted(lambda x, y: (x @ y) / (x @ x), odd_a)
    curvature = fitted(lambda x, y: -(x**2 @ y) / (x**2 @ x**2), even_h)
    edge = Fit(math.nan)
    if two_sided:
        last = odd_h[inside][-1]
        edge = Fit(float(last.mean()), *interval(last @ draws.T, items))
    bends = curvature.value > 0
    return Law(
        window=float(at[-1]),
        points=len(at),
        two_sided=two_sided,
        slope=slope,
        curvature=curvature,
        n_a=fitted(exponent, odd_a),
        n_h=fitted(exponent, even_h),
        odd_h=edge,
        best_a=best_form(c, read.alignment.mean(1)),
        best_h=best_form(c, read.capability.mean(1)),
        efficient=slope.value / (2 * curvature.value) if bends else math.nan,
    )


def _parts(
    read: Readings, two_sided: bool
) -> tuple[Array, Array, Array, Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Give strengths above 0, A's odd, H's even and odd parts there, and which to fit on."""
    c, a, h = read.c, read.alignment, read.capability
    zero = int(np.flatnonzero(c == 0)[0])
    if not two_sided:
        side = c > 0 if (c > 0).sum() >= (c < 0).sum() else c < 0
        at = np.abs(c[side])
        order = np.argsort(at)
        inside = np.arange(len(at)) < max(2, (len(at) + 1) // 2)
        sign = 1.0 if (c[side] > 0).all() else -1.0
        odd_a = sign * (a[side] - a[zero])[order]
        even_h = (h[side] - h[zero])[order]
        return at[order], odd_a, even_h, np.zeros_like(even_h), inside & (len(at) > 1)
    up = np.flatnonzero(c > 0)
    down = np.array([int(np.flatnonzero(np.isclose(c, -c[i]))[0]) for i in up])
    odd_a, even_a = (a[up] - a[down]) / 2, (a[up] + a[down]) / 2 - a[zero]
    odd_h, even_h = (h[up] - h[down]) / 2, (h[up] + h[down]) / 2 - h[zero]
    small = np.abs(even_a.mean(1)) < ODD * np.abs(odd_a.mean(1))
    inside = np.cumprod(small).astype(bool)
    return c[up], odd_a, even_h, odd_h, inside


def exponent(at: Array, values: Array) -> Array:
    """Slope of log|values| on log strength: values [strengths, columns] -> [columns]."""
    x = np.log(at) - np.log(at).mean()
    with np.errstate(divide="ignore"):
        y = np.log(np.abs(values))
    slope: Array = (x @ (y - y.mean(0))) / (x @ x)
    return slope


def best_form(c: Array, values: Array) -> str:
    """Name the form that predicts a left-out strength best (least squares, an intercept each)."""
    errors = {}
    for name, powers in FORMS.items():
        design = np.stack([np.ones_like(c), *(c**p for p in powers)], axis=1)
        if len(c) <= design.shape[1]:
            continue
        missed = []
        for i in range(len(c)):
            keep = np.arange(len(c)) != i
            weights = np.linalg.lstsq(design[keep], values[keep], rcond=None)[0]
            missed.append((values[i] - design[i] @ weights) ** 2)
        errors[name] = float(np.mean(missed))
    return min(errors, key=errors.__getitem__) if errors else ""
