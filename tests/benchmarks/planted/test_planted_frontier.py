import math

import numpy as np
import pytest
import torch

from benchmarks.planted.candidates import best_of
from benchmarks.planted.frontier import Frontier, Point, mean, tilted
from benchmarks.planted.tree import divergence, expected
from harness.report.frontier.estimator import Frontier as Estimated

STRENGTHS = np.linspace(0.0, 12.0, 60).tolist()


@pytest.fixture
def toy(make_tree, make_rewards):
    """Give the law and the rewards of a toy tree."""
    tree = make_tree(ends=True)
    return tree.log_law(), make_rewards(tree)


def test_the_frontier_starts_at_the_base_model(toy):
    """At strength 0 the KL is 0 and the reward is the base model's."""
    law, rewards = toy
    assert Frontier([law], [rewards]).at(0.0) == Point(
        pytest.approx(expected(law, rewards)), pytest.approx(0.0, abs=1e-12)
    )


def test_reward_rises_with_kl_and_ever_more_slowly(toy):
    """The frontier is increasing and concave, with slope 1/strength."""
    law, rewards = toy
    points = Frontier([law], [rewards]).curve(STRENGTHS)
    kl = np.array([p.kl for p in points])
    reward = np.array([p.reward for p in points])
    slope = np.diff(reward) / np.diff(kl)
    assert (np.diff(kl) > 0).all()
    assert (np.diff(reward) > 0).all()
    assert (np.diff(slope) < 0).all()
    middle = (np.array(STRENGTHS[1:]) + np.array(STRENGTHS[:-1])) / 2
    assert slope[20] == pytest.approx(1 / middle[20], rel=1e-2)


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0, 20.0])
def test_a_tilted_policy_has_no_gap(toy, strength):
    """A policy on the frontier has gap 0."""
    law, rewards = toy
    q = tilted(law, rewards, strength)
    point = Point(expected(q, rewards), divergence(q, law))
    assert Frontier([law], [rewards]).gap(point) == pytest.approx(0.0, abs=1e-9)


def test_no_policy_lies_above_the_frontier(toy):
    """Policies drawn at random, and best-of-n, have a gap of at least 0."""
    law, rewards = toy
    frontier = Frontier([law], [rewards])
    rng = torch.Generator().manual_seed(5)
    others = [best_of(law, rewards, n) for n in (2, 5, 40)]
    for scale in (0.1, 1.0, 3.0):
        noise = torch.randn(len(law), generator=rng, dtype=torch.float64)
        others.append((law + scale * noise + rewards).log_softmax(-1))
    for q in others:
        gap = frontier.gap(Point(expected(q, rewards), divergence(q, law)))
        assert gap > 1e-6


def test_beyond_the_best_answer_more_kl_buys_nothing(toy):
    """From the KL of always giving the best answer on, the frontier is flat."""
    law, rewards = toy
    frontier = Frontier([law], [rewards])
    ceiling = frontier.at(math.inf)
    assert ceiling.reward == pytest.approx(rewards.max().item())
    assert ceiling.kl == pytest.approx(-law[rewards.argmax()].item())
    assert frontier.best(ceiling.kl + 5) == ceiling.reward
    assert frontier.best(0.999 * ceiling.kl) == pytest.approx(ceiling.reward, abs=0.05)


def test_answers_the_base_cannot_give_do_not_count(toy):
    """The ceiling is the best answer among those of positive probability."""
    law, rewards = toy
    law = law.clone()
    law[rewards.argmax()] = -torch.inf
    law = law.log_softmax(-1)
    found = Frontier([law], [rewards]).at(math.inf).reward
    assert found == pytest.approx(rewards.topk(2).values[1].item())


def test_prompts_share_one_strength(make_tree, make_rewards):
    """At equal mean KL, no mix of strengths per prompt beats one shared strength."""
    trees = [make_tree(ends=True, seed=s) for s in (0, 1)]
    laws = [tree.log_law() for tree in trees]
    rewards = [make_rewards(trees[0], seed=1), 3 * make_rewards(trees[1], seed=2)]
    frontier = Frontier(laws, rewards)
    for strengths in ((0.0, 1.0), (2.0, 0.2), (1.5, 0.4)):
        points = []
        for law, r, strength in zip(laws, rewards, strengths, strict=True):
            q = tilted(law, r, strength)
            points.append(Point(expected(q, r), divergence(q, law)))
        assert frontier.gap(mean(points)) > 1e-4


def test_the_reports_frontier_is_the_exact_one(toy):
    """Given the whole law, what reports read agrees with the exact frontier to 1e-9."""
    law, rewards = toy
    exact = Frontier([law], [rewards])
    read = Estimated(rewards.numpy()[None], log_p=law.numpy()[None])
    for kl in (0.0, 0.01, 0.5, 1.5, 3.0, 20.0):
        assert read.best(kl).value == pytest.approx(exact.best(kl), abs=1e-9)
