"""Frontier and gap on the enumerable world: exact by enumeration, and estimated from samples."""

import numpy as np
import pytest

from benchmarks.planted.candidates import best_of
from benchmarks.planted.frontier import tilted
from benchmarks.planted.tree import divergence, expected
from harness.engine.steering import Search, Steering
from harness.report.frontier.estimator import Frontier


@pytest.fixture(scope="module")
def laws(enumerated):
    """Give the base model's law over every answer, and gold: [prompts, answers] each."""
    log_p = np.stack([tree.log_law().numpy() for tree in enumerated.base])
    return log_p, np.stack([r.numpy() for r in enumerated.rewards])


def gap(laws, policies):
    """Read the gap of a policy of known law as a report does."""
    log_p, gold = laws
    reward = np.mean([(np.exp(q) * r).sum() for q, r in zip(policies, gold, strict=True)])
    kl = np.mean([(np.exp(q) * (q - p)).sum() for q, p in zip(policies, log_p, strict=True)])
    return Frontier(gold, log_p=log_p).best(float(kl)).value - reward, reward, kl


@pytest.mark.parametrize("strength", [0.3, 1.0, 4.0])
def test_the_exact_optimum_has_no_gap(laws, enumerated, strength):
    """The tilted policy's gap is 0 to 1e-6, in the report's frontier and in the world's own."""
    pairs = zip(enumerated.base, enumerated.rewards, strict=True)
    policies = [tilted(tree.log_law(), r, strength).numpy() for tree, r in pairs]
    found, reward, kl = gap(laws, policies)
    assert found == pytest.approx(0.0, abs=1e-6)
    assert kl > 0.01
    point = enumerated.frontier.at(strength)
    assert (reward, kl) == (pytest.approx(point.reward), pytest.approx(point.kl))
    assert enumerated.frontier.gap(point) == pytest.approx(0.0, abs=1e-6)


def test_unsteered_has_no_kl_and_no_gap(laws, enumerated):
    """The base model: KL 0, and the frontier starts at its reward, to 1e-6."""
    overall = enumerated.report(Steering()).overall
    assert (overall.kl, overall.gap) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    log_p, gold = laws
    assert Frontier(gold, log_p=log_p).best(0.0).value == pytest.approx(overall.reward, abs=1e-6)


@pytest.mark.parametrize("width", [2, 8])
def test_the_gap_of_best_of_n_is_exact(laws, enumerated, reward, width):
    """Best of n by the proxy, through the engine, has the gap of its law in closed form."""
    overall = enumerated.report(Steering(search=Search(width, reward.of_rows))).overall
    policies, points = [], []
    for prompt, tree, gold in zip(
        enumerated.prompts, enumerated.base, enumerated.rewards, strict=True
    ):
        said = list(dict.fromkeys(enumerated.texts))
        known = dict(zip(said, reward.score([prompt.chat] * len(said), said), strict=True))
        scores = gold.new_tensor([known[text] for text in enumerated.texts])
        law = best_of(tree.log_law(), scores, width)
        policies.append(law.numpy())
        points.append((expected(law, gold), divergence(law, tree.log_law())))
    found, mean, kl = gap(laws, policies)
    assert (mean, kl) == (pytest.approx(np.mean(points, axis=0)[0]), pytest.approx(overall.kl))
    assert overall.gap == pytest.approx(found, abs=1e-6)
    assert found > 1e-3


@pytest.mark.parametrize("samples", [64, 256])
def test_the_estimate_covers_the_exact_frontier(laws, samples):
    """Where enough answers speak, 95 % intervals of 200 sample sets cover it in 90 % or more."""
    log_p, gold = laws
    exact = Frontier(gold, log_p=log_p)
    rng, below = np.random.default_rng(samples), np.exp(log_p).cumsum(axis=1)
    covered = dict.fromkeys((0.0, 0.3, 0.6, 0.99), 0)
    for _ in range(200):
        u = rng.random((len(gold), samples)) * below[:, -1:]
        taken = np.stack([np.searchsorted(c, x) for c, x in zip(below, u, strict=True)])
        found = Frontier(np.take_along_axis(gold, taken, axis=1))
        for share in covered:
            kl = share * found.reach
            one = found.best(kl).estimate
            covered[share] += one.low <= exact.best(kl).value <= one.high
    assert min(covered.values()) >= 180, covered
