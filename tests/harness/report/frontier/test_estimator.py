"""The frontier from base samples: what is read, how sure it is, and where it ends."""

import math

import numpy as np
import pytest

from harness.report.frontier.estimator import ENOUGH, Frontier, divergence_bound, selected
from harness.report.pool import expected_max, selection_weights

PROMPTS, LISTED = 12, 300


@pytest.fixture(scope="module")
def law():
    """Give log-probabilities and rewards of every answer to a few prompts."""
    rng = np.random.default_rng(3)
    log_p = np.log(rng.dirichlet(np.ones(LISTED), size=PROMPTS))
    return log_p, rng.standard_normal((PROMPTS, LISTED))


def draws(law, samples, seed):
    """Draw base answers and give their rewards: [prompts, samples]."""
    log_p, rewards = law
    below = np.exp(log_p).cumsum(axis=1)
    u = np.random.default_rng(seed).random((len(rewards), samples)) * below[:, -1:]
    taken = np.stack([np.searchsorted(c, x) for c, x in zip(below, u, strict=True)])
    return np.take_along_axis(rewards, taken, axis=1)


def test_a_known_law_is_read_exactly(law):
    """At a tilted law's own KL the frontier is its reward, whatever the strength."""
    log_p, rewards = law
    found = Frontier(rewards, log_p=log_p)
    for strength in (0.0, 0.1, 1.0, 5.0, 40.0):
        weights = np.exp(log_p + strength * rewards)
        q = weights / weights.sum(axis=1, keepdims=True)
        reward = (q * rewards).sum(axis=1).mean()
        kl = (q * (np.log(np.maximum(q, 1e-300)) - log_p)).sum(axis=1).mean()
        reading = found.best(kl)
        assert reading.value == pytest.approx(reward, abs=1e-9)
        assert reading.estimate.low == reading.estimate.high == reading.value
        assert not reading.beyond


def test_beyond_the_best_answers_more_kl_buys_nothing(law):
    """From the KL of always giving the best answer on, the frontier of a known law is flat."""
    log_p, rewards = law
    found = Frontier(rewards, log_p=log_p)
    best = rewards.argmax(axis=1)
    assert found.reach == pytest.approx(-log_p[np.arange(PROMPTS), best].mean())
    assert found.best(50.0).value == pytest.approx(rewards.max(axis=1).mean())


def test_without_kl_the_frontier_is_the_base_model(law):
    """At KL 0 it is the samples' mean, its error theirs, and nothing is biased."""
    rewards = draws(law, 64, 0)
    reading = Frontier(rewards).best(0.0)
    assert reading.values == pytest.approx(rewards.mean(axis=1))
    error = math.sqrt((rewards.var(axis=1, ddof=1) / 64).sum()) / PROMPTS
    assert reading.error == pytest.approx(error)
    assert reading.bias == 0.0


@pytest.mark.parametrize("samples", [32, 64])
def test_the_interval_covers_the_truth(law, samples):
    """Over 200 sets of samples, the 95 % interval covers the exact value in 90 % or more."""
    exact = Frontier(law[1], log_p=law[0])
    covered, below = {}, 0
    for seed in range(200):
        found = Frontier(draws(law, samples, seed))
        for share in (0.0, 0.5, 0.99):
            kl = share * found.reach
            one, truth = found.best(kl).estimate, exact.best(kl).value
            covered[share] = covered.get(share, 0) + (one.low <= truth <= one.high)
            below += one.high - one.low > 1.0
    assert min(covered.values()) >= 180, covered
    assert not below  # nor are they so wide that covering says nothing


def test_what_is_read_is_too_low_on_average(law):
    """The estimate is a lower bound: its mean lies below the truth, by about its own bias."""
    exact = Frontier(law[1], log_p=law[0])
    off, told = [], []
    for seed in range(200):
        found = Frontier(draws(law, 32, seed))
        reading = found.best(found.reach)
        off.append(exact.best(found.reach).value - reading.value)
        told.append(reading.bias)
    assert np.mean(off) > 3 * np.std(off) / math.sqrt(200)
    assert np.mean(told) == pytest.approx(np.mean(off), rel=0.5)


def test_the_strength_ends_where_few_answers_speak(law):
    """The last point shown has a harmonic mean of ten effective answers, and fewer follow."""
    found = Frontier(draws(law, 64, 1))
    last = found.curve[-1]
    assert last.effective == pytest.approx(ENOUGH, rel=1e-6)
    assert 1 / np.mean(1 / last.ess) == pytest.approx(last.effective)
    assert found.at(1.01 * found.steepest).effective < ENOUGH
    assert [t.strength for t in found.curve] == sorted(t.strength for t in found.curve)


def test_beyond_its_samples_the_best_of_n_is_what_is_known(law):
    """Further out the reading is at least best of N at its bound, and says it is a bound."""
    rewards = draws(law, 32, 2)
    found = Frontier(rewards)
    reading = found.best(divergence_bound(20) + 1e-6)
    assert reading.beyond
    assert math.isnan(reading.estimate.low)
    best = np.stack([expected_max(row)[19] for row in rewards])
    assert reading.values == pytest.approx(best)
    assert found.best(100.0).value == pytest.approx(rewards.max(axis=1).mean())
    near = found.best(found.reach + 1e-9)
    assert near.value >= found.best(found.reach).value - 1e-9


def test_best_of_n_is_its_expectation():
    """Each N's value is the mean over all ways to take N of the answers."""
    rewards = np.array([[3.0, 1.0, 2.0, 5.0], [0.0, 0.0, 1.0, np.nan]])
    found = Frontier(rewards).best_of([1, 2, 3])
    assert found[0] == pytest.approx([11 / 4, (5 * 3 + 3 * 2 + 2) / 6, (5 * 3 + 3) / 4])
    assert found[1] == pytest.approx([1 / 3, 2 / 3, 1.0])
    for m, n in ((64, 5), (20, 20), (7, 1)):
        assert selected(m, n) == pytest.approx(selection_weights(m)[n - 1])
    with pytest.raises(ValueError, match="best of 4 from 3"):
        Frontier(rewards).best_of([4])


def test_another_score_follows_the_same_weights(law):
    """Gold along the proxy's tilt is weighted by the proxy."""
    log_p, rewards = law
    gold = -rewards
    tilted = Frontier(rewards, gold, log_p).at(2.0)
    assert tilted.other == pytest.approx(-tilted.reward)


def test_large_and_equal_rewards_do_no_harm(law):
    """Rewards of any size shift the frontier and nothing else; equal ones make it flat."""
    rewards = draws(law, 32, 4)
    near, far = Frontier(rewards).best(0.4), Frontier(rewards + 1e4).best(0.4)
    assert far.value - 1e4 == pytest.approx(near.value, abs=1e-6)
    flat = Frontier(np.ones((2, 20)))
    assert flat.best(0.0).value == 1.0
    assert flat.best(3.0).value == 1.0
    with pytest.raises(ValueError, match="each an answer with a reward"):
        Frontier(np.array([[1.0, 2.0], [np.nan, np.nan]]))
