"""The law of strength: exponents, parts, windows, on curves whose law is known."""

import numpy as np
import pytest

from harness.errors import PlumblineError
from harness.report.law import Readings, best_form, exponent, law

SMALL = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)


def planted(c, items=400, power_a=1.0, power_h=2.0, slanted=0.0, seed=0):
    """Make readings whose odd part of A and even part of H have given powers, with noise."""
    rng = np.random.default_rng(seed)
    c = np.array(sorted(c))
    slope = 1.0 + 0.5 * rng.standard_normal(items)
    bend = 0.8 + 0.3 * rng.standard_normal(items)
    tilt = slanted + 0.2 * rng.standard_normal(items)
    start = rng.standard_normal(items)
    size = np.abs(c)[:, None]
    a = start + np.sign(c)[:, None] * size**power_a * slope
    h = -1 - size**power_h * bend + c[:, None] * tilt
    return Readings(c, a, h)


def both(values=SMALL):
    """Give every strength with its opposite."""
    return sorted({*values, *(-v for v in values)})


def test_planted_exponents_are_recovered():
    """On both sides of 0, a line and a parabola are found, and the law is said to hold."""
    found = law(planted(both()))
    assert found.two_sided
    assert found.points == 5
    assert found.n_a.value == pytest.approx(1, abs=0.02)
    assert found.n_h.value == pytest.approx(2, abs=0.02)
    assert found.slope.includes(1.0)
    assert found.curvature.includes(0.8)
    assert found.efficient == pytest.approx(1 / 1.6, rel=0.15)
    assert found.holds
    assert (found.best_a, found.best_h.split()[-1]) == ("linear", "quadratic")


def test_another_law_is_told_from_it():
    """Alignment that grows as a root, or capability that falls in a line, does not pass."""
    assert not law(planted(both(), power_a=0.5)).holds
    assert not law(planted(both(), power_h=1.0)).holds


def test_capability_that_leans_is_reported():
    """A steering that is not random with respect to the task has a linear term in H."""
    found = law(planted(both(), slanted=0.5))
    assert found.n_h.includes(2)
    assert not found.odd_h.includes(0)
    assert not found.holds


def test_the_window_ends_where_alignment_is_no_longer_odd():
    """A large even part of A at large strength keeps that strength out of the fit."""
    read = planted(both((0, 0.1, 0.2, 0.4, 2.0)))
    read.alignment[np.abs(read.c) == 2.0] += 5.0
    assert law(read).window == pytest.approx(0.4)


def test_one_side_uses_differences_to_zero():
    """Without opposites the smaller half of the strengths is read against 0."""
    found = law(planted((0, 0.1, 0.2, 0.3, 2.0, 4.0)))
    assert not found.two_sided
    assert found.window == pytest.approx(0.3)
    assert found.n_a.value == pytest.approx(1, abs=0.05)


def test_the_toy_of_random_directions_has_the_law():
    """Questions of four options under a random direction: accuracy bends, behaviour leans."""
    rng = np.random.default_rng(0)
    n = 4000
    c = np.array(both((0, 0.05, 0.1, 0.2, 0.3, 0.4)))
    logits, push = rng.standard_normal((n, 4)), rng.standard_normal((n, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    moved = logits[None] + c[:, None, None] * push[None]
    log_p = moved - np.log(np.exp(moved).sum(-1, keepdims=True))
    h = log_p[:, np.arange(n), right]
    m, g = rng.standard_normal(n), np.abs(rng.standard_normal(n))
    found = law(Readings(c, np.tanh((m + c[:, None] * g) / 2), h))
    assert found.n_a.value == pytest.approx(1, abs=0.05)
    assert found.n_h.value == pytest.approx(2, abs=0.1)


def test_scaling_the_knob_scales_nothing_else():
    """Twice the vector at half the strength leaves exponents as they are."""
    read = planted(both())
    half = law(Readings(read.c / 2, read.alignment, read.capability))
    assert half.n_a.value == pytest.approx(law(read).n_a.value)
    assert half.slope.value == pytest.approx(2 * law(read).slope.value)


def test_what_cannot_be_fitted_is_refused():
    """No strength of 0, or too few that are odd, gives one clear line."""
    with pytest.raises(PlumblineError, match="around strength 0"):
        law(planted((0.1, 0.2, 0.3)))
    read = planted(both())
    read.alignment[:] = np.abs(read.c)[:, None]
    with pytest.raises(PlumblineError, match="fewer than two strengths"):
        law(read)


def test_pieces():
    """A slope of logarithms, and the form that predicts what was left out."""
    at = np.array([1.0, 2.0, 4.0])
    assert exponent(at, 3 * at[:, None] ** 1.5) == pytest.approx([1.5])
    c = np.linspace(-1, 1, 7)
    assert best_form(c, 2 + 0 * c) == "constant"
    assert best_form(c, c - c**2) == "linear + quadratic"
