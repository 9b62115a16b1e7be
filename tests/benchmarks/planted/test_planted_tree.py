import math

import pytest
import torch

from benchmarks.planted.frontier import tilted
from benchmarks.planted.tree import Tree, divergence, expected
from harness.errors import PlumblineError

STRENGTHS = (0.1, 1.0, 2.0, 8.0)


@pytest.mark.parametrize("ends", [False, True])
def test_the_law_sums_to_one(make_tree, ends):
    """The answers' probabilities sum to one, with and without an end token."""
    tree = make_tree(ends=ends)
    assert tree.log_law().exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert len(tree.log_law()) == len(tree.leaves()) == (81 + (1 + 3 + 9 + 27 if ends else 0))


@pytest.mark.parametrize("ends", [False, True])
def test_a_leafs_probability_is_the_product_along_it(make_tree, ends):
    """Each answer's probability is the product of its tokens' probabilities."""
    tree = make_tree(ends=ends)
    for tokens, found in zip(tree.leaves(), tree.log_law().tolist(), strict=True):
        prefix, total = 0, 0.0
        for depth, token in enumerate(tokens):
            total += tree.levels[depth][prefix, token].item()
            prefix = prefix * tree.branch + token
        assert found == pytest.approx(total, abs=1e-12)


def test_answers_are_distinct_and_only_end_once(make_tree):
    """No answer is listed twice, and an end token stands only at the end."""
    leaves = make_tree(ends=True).leaves()
    assert len(set(leaves)) == len(leaves)
    assert all(3 not in tokens[:-1] for tokens in leaves)
    assert all(tokens[-1] == 3 or len(tokens) == 4 for tokens in leaves)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_soft_value_policy_is_the_tilt(make_tree, make_rewards, ends, strength):
    """Sampling by the soft value gives p(y) exp(strength r(y)) / Z to 1e-12."""
    tree = make_tree(ends=ends)
    rewards = make_rewards(tree)
    guided = tree.guided(tree.next_values(rewards, strength), strength)
    tilt = tilted(tree.log_law(), rewards, strength)
    assert (guided.log_law().exp() - tilt.exp()).abs().max().item() < 1e-12


def test_no_strength_is_the_base_policy(make_tree, make_rewards):
    """Controlled decoding at strength 0 is the base policy."""
    tree = make_tree(ends=True)
    guided = tree.guided(tree.next_values(make_rewards(tree)), 0.0)
    assert torch.allclose(guided.log_law(), tree.log_law(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("ends", [False, True])
def test_the_value_is_the_mean_over_completions(make_tree, make_rewards, ends):
    """The value of a prefix is the reward of its completions weighted by their probability."""
    tree = make_tree(ends=ends)
    rewards = make_rewards(tree)
    law = tree.log_law().exp()
    prefix = (2, 0)
    inside = torch.tensor([leaf[: len(prefix)] == prefix for leaf in tree.leaves()])
    wanted = (law * rewards)[inside].sum() / law[inside].sum()
    assert tree.values(rewards)[2][2 * 3 + 0].item() == pytest.approx(wanted.item(), abs=1e-12)
    assert tree.values(rewards)[0].item() == pytest.approx(expected(law.log(), rewards), abs=1e-12)


def test_controlled_decoding_maximises_its_own_objective(make_tree, make_rewards):
    """At the root, p exp(strength V) beats other distributions at strength * E[V] - KL."""
    tree = make_tree()
    after = tree.next_values(make_rewards(tree))
    strength = 2.0
    best = tree.guided(after, strength).levels[0][0]
    base = tree.levels[0][0]

    def objective(log_q):
        return strength * expected(log_q, after[0][0]) - divergence(log_q, base)

    rng = torch.Generator().manual_seed(3)
    for _ in range(50):
        other = torch.randn(3, generator=rng, dtype=torch.float64).log_softmax(-1)
        assert objective(other) < objective(best)


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_controlled_decoding_is_not_the_tilt(make_tree, make_rewards, strength):
    """Token-wise control by the value differs from the tilt and is dominated by it."""
    tree = make_tree()
    rewards, base = make_rewards(tree), tree.log_law()
    control = tree.guided(tree.next_values(rewards), strength).log_law()
    tilt = tilted(base, rewards, strength)
    assert (control.exp() - tilt.exp()).abs().sum().item() > 0.01

    def objective(log_q):
        return strength * expected(log_q, rewards) - divergence(log_q, base)

    assert objective(control) < objective(tilt)


def test_the_table_and_the_leaves_give_the_same_tree(make_tree):
    """A tree built from prefix tables equals one built from per-token log-probabilities."""
    tree = make_tree(ends=True)
    rows = [tree.branch ** (tree.budget - 1 - d) for d in range(tree.budget)]
    table = torch.stack(
        [lv.repeat_interleave(n, 0) for lv, n in zip(tree.levels, rows, strict=True)], 1
    )
    along = []
    for tokens in tree.leaves():
        prefix, steps = 0, []
        for depth, token in enumerate(tokens):
            steps.append(tree.levels[depth][prefix, token])
            prefix = prefix * tree.branch + token
        along.append(torch.stack(steps))
    for built in (Tree.of_table(table, 3), Tree.of_leaves(along, 3, 4)):
        for found, wanted in zip(built.levels, tree.levels, strict=True):
            assert torch.allclose(found, wanted, atol=1e-12, rtol=0)


def test_what_does_not_sum_to_one_is_refused():
    """Per-token log-probabilities that are no distribution raise one clear line."""
    halves = [torch.tensor([math.log(0.4)], dtype=torch.float64)] * 2
    with pytest.raises(PlumblineError, match=r"sum to 0\.8000"):
        Tree.of_leaves(halves, 2, 1)


def test_divergence_is_zero_for_equal_laws_and_infinite_off_the_support():
    """KL is 0 between equal laws and infinite where the base cannot say what is said."""
    p = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    q = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log()
    assert divergence(p, p) == 0.0
    assert divergence(q, p) == math.inf
    assert divergence(p, q) == pytest.approx(0.5 * math.log(2))
