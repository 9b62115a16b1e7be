import pytest

from benchmarks.planted import World
from harness.chat import Chat
from harness.records import Prompt

QUESTIONS = ("a b", "c")


@pytest.fixture(scope="session")
def world():
    """Give the world of seed 0, not built."""
    return World(0)


@pytest.fixture(scope="session")
def folder(world, tmp_path_factory):
    """Give the folder of the built world of seed 0."""
    place = tmp_path_factory.mktemp("planted")
    world.build(place, lambda fraction, what: None)
    return place


@pytest.fixture(scope="session")
def policy(folder):
    """Load the random policy."""
    from harness.engine.model import Model

    return Model.load(str(folder / "policy"), device="cpu")


@pytest.fixture(scope="session")
def reward(folder):
    """Load the proxy reward model."""
    from harness.engine.reward import RewardModel

    return RewardModel.load(str(folder / "reward"), device="cpu")


@pytest.fixture(scope="session")
def gold(world):
    """Give the truth as one number."""
    return lambda chat, text: world.gold(chat, text)["gold"]


@pytest.fixture(scope="session")
def prompts():
    """Give two short prompts."""
    return [Prompt(f"p{i}", Chat.of(words)) for i, words in enumerate(QUESTIONS)]


@pytest.fixture(scope="session")
def enumerated(policy, prompts, gold):
    """Give the policy with every answer to two prompts."""
    from benchmarks.planted.enumerated import Enumerated

    return Enumerated(policy, prompts, gold)


def random_tree(branch=3, budget=4, *, ends=False, seed=0):
    """Make a tree with a next-token distribution from a flat Dirichlet at every prefix."""
    import torch

    from benchmarks.planted.tree import Tree

    rng = torch.Generator().manual_seed(seed)
    levels = []
    for depth in range(budget):
        size = (branch**depth, branch + ends)
        exponential = -torch.rand(size, generator=rng, dtype=torch.float64).log()
        levels.append((exponential / exponential.sum(-1, keepdim=True)).log())
    return Tree(tuple(levels), branch)


@pytest.fixture(scope="session")
def make_tree():
    """Give the function that makes toy trees."""
    return random_tree


@pytest.fixture(scope="session")
def make_rewards():
    """Give the function that draws a standard-normal reward for every leaf of a tree."""
    import torch

    def make(tree, seed=1):
        rng = torch.Generator().manual_seed(seed)
        return torch.randn(len(tree.leaves()), generator=rng, dtype=torch.float64)

    return make
