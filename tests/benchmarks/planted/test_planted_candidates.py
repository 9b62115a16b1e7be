import itertools
import math

import pytest
import torch

from benchmarks.planted.candidates import best_of, divergence_bound, soft_best_of
from benchmarks.planted.frontier import tilted
from benchmarks.planted.tree import divergence

P = torch.tensor([0.1, 0.25, 0.05, 0.4, 0.2], dtype=torch.float64)
SCORES = {
    "distinct": torch.tensor([0.3, -1.0, 2.0, 0.1, 0.9], dtype=torch.float64),
    "tied": torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0], dtype=torch.float64),
}


def brute(n, choose):
    """Law of the chosen answer by listing every tuple of n candidates."""
    law = torch.zeros(len(P), dtype=torch.float64)
    for drawn in itertools.product(range(len(P)), repeat=n):
        weight = math.prod(P[i].item() for i in drawn)
        for i, share in choose(drawn):
            law[i] += weight * share
    return law


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_agrees_with_every_tuple(kind, n):
    """The closed form is what listing every tuple gives, the earlier of equals winning."""
    score = SCORES[kind]
    wanted = brute(n, lambda drawn: [(max(drawn, key=lambda i: score[i].item()), 1.0)])
    assert torch.allclose(best_of(P.log(), score, n).exp(), wanted, atol=1e-14, rtol=0)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 50.0])
def test_soft_best_of_n_agrees_with_every_tuple(kind, n, temperature):
    """The integral is what listing every tuple gives, to 1e-10."""
    score = SCORES[kind]

    def choose(drawn):
        picked = (score[list(drawn)] / temperature).softmax(-1).tolist()
        return zip(drawn, picked, strict=True)

    found = soft_best_of(P.log(), score, n, temperature).exp()
    assert torch.allclose(found, brute(n, choose), atol=1e-10, rtol=0)


def test_soft_best_of_n_lies_between_best_of_n_and_the_tilt():
    """Cold it is best-of-n, hot it is the base law, and with many candidates the tilt."""
    law, score = P.log(), SCORES["distinct"]
    cold = soft_best_of(law, score, 4, 0.005).exp()
    assert torch.allclose(cold, best_of(law, score, 4).exp(), atol=1e-6)
    assert torch.allclose(soft_best_of(law, score, 4, 1e6).exp(), P, atol=1e-5)
    tilt = tilted(law, score, 1 / 0.5)
    distances = [divergence(tilt, soft_best_of(law, score, n, 0.5)) for n in (2, 8, 32, 128)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3


@pytest.mark.parametrize("size", [2, 10, 1000])
def test_best_of_n_keeps_the_bound(size):
    """KL(best of n) stays below log n - (n-1)/n, and comes near it for many small answers."""
    rng = torch.Generator().manual_seed(size)
    flat = -torch.rand(size, generator=rng, dtype=torch.float64).log()
    law = (flat / flat.sum()).log()
    score = torch.randn(size, generator=rng, dtype=torch.float64)
    for n in (1, 2, 4, 16, 128, 1024):
        kl = divergence(best_of(law, score, n), law)
        assert kl <= divergence_bound(n) + 1e-9
    if size == 1000:
        assert divergence(best_of(law, score, 4), law) == pytest.approx(
            divergence_bound(4), abs=0.01
        )


@pytest.mark.parametrize("n", [2, 8, 64])
def test_win_rate_over_one_draw_is_bounded(n):
    """Against one base draw, ties counted half, best-of-n wins at most n/(n+1)."""
    score = SCORES["distinct"]
    law = best_of(P.log(), score, n).exp()
    wins = (score[:, None] > score[None, :]).double() + 0.5 * (score[:, None] == score[None, :])
    assert (law @ wins @ P).item() <= n / (n + 1) + 1e-12


def test_a_tiny_group_loses_no_digits():
    """An answer of probability 1e-18 is n times as likely under best-of-n, not 0."""
    law = torch.tensor([1e-18, 0.5, 0.5], dtype=torch.float64).log()
    score = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    found = best_of(law, score, 8).exp()
    assert found[0].item() == pytest.approx(8e-18, rel=1e-9)
    assert found.sum().item() == pytest.approx(1.0)


def test_impossible_answers_stay_impossible():
    """Answers of probability zero are not chosen, whatever their score."""
    law = torch.tensor([0.0, 0.4, 0.6, 0.0], dtype=torch.float64).log()
    score = torch.tensor([9.0, 1.0, 2.0, -9.0], dtype=torch.float64)
    found = best_of(law, score, 3).exp()
    assert found.tolist() == [0.0, pytest.approx(0.4**3), pytest.approx(1 - 0.4**3), 0.0]
