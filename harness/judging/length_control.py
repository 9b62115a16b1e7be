"""Win rates with the judge's taste for length taken out, by a logistic regression.

Dubois et al., "Length-Controlled AlpacaEval", arXiv 2404.04475:

    logit P(model wins) = length * tanh(d / sd(d)) + difficulty * item's difficulty + model

with d the baseline's characters less the model's; the rate is the mean of P at d = 0.  Two
things are kept apart.  The published coefficients reproduce published rows (``predicted``).
A new row is fitted from its own verdicts (``refit``), by a regression of our own and under its
own name: the official fit also needs verdicts on gamed models that are not in the verdicts.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import PlumblineError
from harness.judging.preferences import shares
from harness.report.statistics import Array

NAME = "length-adjusted win rate (Plumbline's own regression)"

# Where a row's verdicts say little of length or difficulty, the fit leans on a normal prior, which
# does the work that verdicts on gamed models do upstream.  Means and precisions are round numbers
# near the middle and spread of published coefficients; no row's own coefficients enter.
PRIOR_MEAN = np.array([-1.5, 0.9, 0.0])
PRIOR_PRECISION = np.array([12.0, 100.0, 0.01])
STEPS = 100
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Coefficients:
    """What the regression found: the taste for length, the weight of difficulty, the model."""

    length: float
    difficulty: float
    model: float


@dataclass(frozen=True)
class Adjusted:
    """A row's adjusted rate, in points.

    standard_error  of the rate: the fit's own (a sandwich estimate) and that of the items.
    """

    rate: float
    standard_error: float
    coefficients: Coefficients


def predicted(coefficients: Coefficients, difficulty: Sequence[float]) -> float:
    """Give the length-controlled win rate, in points, that coefficients stand for."""
    z = coefficients.model + coefficients.difficulty * np.asarray(difficulty, dtype=float)
    return 100 * float(_logistic(z).mean())


def refit(
    preferences: Sequence[float | None],
    base_lengths: Sequence[int],
    lengths: Sequence[int],
    difficulty: Sequence[float] | None = None,
) -> Adjusted:
    """Fit a row's own verdicts.

    base_lengths, lengths  characters of the baseline's and of the model's answers.
    difficulty             one number an item, larger where the model does better; left out,
                           items are taken to be alike.

    Raises PlumblineError where the columns differ in length or there is no verdict.
    """
    share = shares(preferences)
    columns = [base_lengths, lengths, *([] if difficulty is None else [difficulty])]
    if any(len(column) != len(share) for column in columns):
        sizes = ", ".join(str(len(column)) for column in [share, *columns])
        raise PlumblineError(f"length adjustment needs columns of one length; they have {sizes}")
    seen = ~np.isnan(share)
    if not seen.any():
        raise PlumblineError("length adjustment needs at least one verdict")
    hard = np.zeros(len(share)) if difficulty is None else np.asarray(difficulty, dtype=float)
    x = np.column_stack([_length(base_lengths, lengths), hard, np.ones(len(share))])
    found, spread = _fit(x[seen], share[seen])
    x[:, 0] = 0.0
    p = _logistic(x @ found)
    slope = (x * (p * (1 - p))[:, None]).mean(axis=0)
    items = float(p.var(ddof=1)) / len(p) if len(p) > 1 else math.nan
    a, b, c = map(float, found)
    return Adjusted(
        100 * float(p.mean()),
        100 * math.sqrt(float(slope @ spread @ slope) + items),
        Coefficients(a, b, c),
    )


def read_coefficients(path: Path) -> dict[str, Coefficients]:
    """Read upstream's table of coefficients by model.

    Raises PlumblineError where a column is missing.
    """
    names = ("np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row[""]: Coefficients(*(float(row[name]) for name in names)) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise PlumblineError(
            f"{path} is no table of length-control coefficients ({error}); it needs the "
            f"columns {', '.join(names)} and the model's name in the first"
        ) from error


def _length(base: Sequence[int], ours: Sequence[int]) -> Array:
    """Give tanh of the standardised difference of lengths; zeros where all are alike."""
    difference = np.asarray(base, dtype=float) - np.asarray(ours, dtype=float)
    sd = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return np.tanh(difference / sd) if sd else np.zeros_like(difference)


def _fit(x: Array, y: Array) -> tuple[Array, Array]:
    """Find the mode under the prior by Newton's steps, and its sandwich covariance."""

    def loss(b: Array) -> float:
        z = x @ b
        prior = PRIOR_PRECISION * (b - PRIOR_MEAN) ** 2
        return float((np.logaddexp(0, z) - y * z).sum() + prior.sum() / 2)

    b = PRIOR_MEAN.copy()
    for _ in range(STEPS):
        p = _logistic(x @ b)
        gradient = x.T @ (p - y) + PRIOR_PRECISION * (b - PRIOR_MEAN)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(PRIOR_PRECISION)
        step = np.linalg.solve(curvature, gradient)
        while np.abs(step).max() > TOLERANCE and loss(b - step) > loss(b):
            step = step / 2  # Newton overshoots where nearly all verdicts are one side's
        b = b - step
        if np.abs(step).max() <= TOLERANCE:
            break
    residual = x * (y - _logistic(x @ b))[:, None]
    bread = np.linalg.inv(curvature)
    return b, bread @ (residual.T @ residual) @ bread


def _logistic(z: Array) -> Array:
    return np.exp(-np.logaddexp(0, -z))
