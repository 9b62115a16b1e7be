"""Directions fitted on planted contrasts, and the pairs they are refused on."""

import pytest
import torch

from harness.errors import PlumblineError
from methods._directions import (
    accuracy,
    mean_difference,
    mean_direction,
    pca_direction,
    probe,
    probe_direction,
    random_direction,
    regression_direction,
    unit,
)


def planted(pairs=64, width=32, size=2.0, seed=0):
    """Draw pairs that differ along one direction, each by its own amount; give all three."""
    rng = torch.Generator().manual_seed(seed)
    along = torch.randn(width, generator=rng)
    along = along / along.norm()
    base = torch.randn(pairs, width, generator=rng)
    amount = size * (0.5 + torch.rand(pairs, 1, generator=rng))
    noise = 0.1 * torch.randn(2, pairs, width, generator=rng)
    return base + amount / 2 * along + noise[0], base - amount / 2 * along + noise[1], along


@pytest.mark.parametrize(
    ("find", "least"),
    [
        (mean_direction, 0.99),
        (lambda good, bad: pca_direction(good, bad, 0), 0.99),
        (probe_direction, 0.7),
    ],
    ids=["mean", "pca", "probe"],
)
def test_a_planted_contrast_is_found(find, least):
    """Each direction points along the planted contrast, towards the preferred answers."""
    good, bad, along = planted()
    found = find(good, bad)
    assert float(found.norm()) == pytest.approx(1)
    assert float(found @ along.double()) > least
    assert float(find(bad, good) @ along.double()) < -least


def test_the_mean_difference_is_worked_by_hand():
    """It has the length of the mean of the differences."""
    good = torch.tensor([[3.0, 0.0], [5.0, 2.0]] * 4)
    bad = torch.tensor([[0.0, 0.0], [0.0, 0.0]] * 4)
    assert mean_difference(good, bad).tolist() == [4.0, 1.0]


def test_the_principal_component_is_of_the_pairs_in_shuffled_order():
    """Centring differences all of one sign would remove what they share; the order is shuffled."""
    rng = torch.Generator().manual_seed(1)
    bad = torch.randn(200, 16, generator=rng)
    good = bad + torch.eye(16)[0] * 3 + 0.5 * torch.randn(200, 16, generator=rng)
    assert float(pca_direction(good, bad, 0)[0]) > 0.95
    same = pca_direction(good, bad, 0)
    assert torch.equal(same, pca_direction(good, bad, 0))
    assert float(same @ pca_direction(good, bad, 1)) > 0.99


def test_the_probe_is_a_penalised_maximum_of_likelihood():
    """At the probe's weights the gradient of the penalised likelihood is zero."""
    good, bad, _ = planted(20, 8)
    weights, bias = probe(good, bad)
    x = torch.cat([good, bad]).double()
    y = torch.cat([torch.ones(20), torch.zeros(20)]).double()
    error = (x @ weights + bias).sigmoid() - y
    ridge = 1e-2 * float((x - x.mean(0)).square().sum(-1).mean())
    assert float((x.T @ error + ridge * weights).abs().max()) < 1e-6
    assert abs(float(error.sum())) < 1e-6


def test_the_probe_is_the_same_in_the_span_of_few_states():
    """With fewer states than dimensions the solution lies in their span, and is the same."""
    good, bad, _ = planted(10, 12)
    padded = [torch.cat([side, torch.zeros(10, 30)], 1) for side in (good, bad)]
    weights, bias = probe(*padded)
    plain, plain_bias = probe(good, bad)
    assert torch.allclose(weights[:12], plain, atol=1e-6)
    assert torch.allclose(weights[12:], torch.zeros(30).double(), atol=1e-8)
    assert float(bias) == pytest.approx(float(plain_bias), abs=1e-6)


def test_accuracy_is_on_pairs_not_fitted_on():
    """A planted contrast is labelled rightly on held-out pairs, noise no better than a coin."""
    good, bad, _ = planted(size=4.0)
    assert accuracy(good[:40], bad[:40], good[40:], bad[40:]) > 0.9
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 200, 8, generator=rng)
    assert 0.4 < accuracy(*noise) < 0.6


@pytest.mark.parametrize("width", [8, 200])
def test_a_regression_finds_what_the_reward_is_linear_in(width):
    """With more states than dimensions and with fewer, the weights point along the planted ones."""
    rng = torch.Generator().manual_seed(0)
    along = unit(torch.randn(width, generator=rng).double(), "planted")
    states = torch.randn(150, width, generator=rng)
    rewards = 3 * states.double() @ along + 7
    found = regression_direction(states, rewards)
    assert float(found @ along) > (0.99 if width == 8 else 0.7)
    assert float(regression_direction(states, -rewards) @ along) < 0


def test_random_directions_differ_by_seed_and_number():
    """A control direction is named by a seed and a number, and no two of them are alike."""
    drawn = [random_direction(64, seed, number) for seed in (0, 1) for number in (0, 1)]
    assert torch.equal(drawn[1], random_direction(64, 0, 1))
    for i, one in enumerate(drawn):
        assert float(one.norm()) == pytest.approx(1)
        assert all(abs(float(one @ other)) < 0.5 for other in drawn[:i])


def test_too_few_pairs_are_refused():
    """Seven pairs are too few for a direction."""
    good, bad, _ = planted(7)
    with pytest.raises(PlumblineError, match="8 usable pairs or more; there are 7"):
        mean_direction(good, bad)
    with pytest.raises(PlumblineError, match="8 states; there are 3"):
        regression_direction(good[:3], torch.zeros(3))


def test_pairs_all_identical_are_refused():
    """Answers with the same states cannot be told apart."""
    good, _, _ = planted()
    with pytest.raises(PlumblineError, match="same states"):
        mean_direction(good, good)


def test_a_direction_of_no_length_is_refused():
    """Differences that cancel out, and rewards that do not vary, point nowhere."""
    good, bad, _ = planted(16)
    with pytest.raises(PlumblineError, match="mean-difference direction has length"):
        mean_direction(torch.cat([good, bad]), torch.cat([bad, good]))
    with pytest.raises(PlumblineError, match="regression direction has length 0"):
        regression_direction(good, torch.ones(16))


def test_states_and_rewards_that_are_nan_are_refused():
    """NaN is named, not propagated."""
    good, bad, _ = planted()
    bad[3, 3] = float("nan")
    with pytest.raises(PlumblineError, match="NaN"):
        probe_direction(good, bad)
    with pytest.raises(PlumblineError, match="is NaN"):
        regression_direction(good, torch.full((64,), float("nan")))
