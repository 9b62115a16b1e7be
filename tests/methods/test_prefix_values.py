"""What V is trained on: the final reward at every prefix, or what is expected of the next token."""

import itertools

import pytest
import torch

from benchmarks.planted.tree import Tree
from harness.chat import Chat
from harness.contracts.method import Kit
from harness.errors import PlumblineError
from harness.records import Prompt
from methods._prefix_values import (
    Batch,
    HeadLearner,
    NetworkLearner,
    Recipe,
    quality,
    targets,
    train,
)
from methods._rollouts import Rollouts, rollouts, states_of
from methods._second_network import SecondNetwork
from methods._value_head import ValueHead
from methods._value_training import Scale, error_of

RAW = Scale()


# ------------------------------------------------------------------ the targets


def test_fudge_puts_the_final_reward_at_every_prefix():
    """Each answer's reward stands at each of its prefixes, and at no other's."""
    batch = Batch(torch.zeros(6), None, torch.tensor([1, 3, 2]), torch.tensor([5.0, 6.0, 7.0]))
    assert targets(batch).tolist() == [5, 6, 6, 6, 7, 7]


def test_q_puts_the_reward_at_the_last_prefix_and_what_lies_ahead_before_it():
    """Only y^T meets r; the others meet what the slow copy says of the next token."""
    ahead = torch.arange(10.0, 16.0, requires_grad=True)
    batch = Batch(torch.zeros(6), ahead, torch.tensor([1, 3, 2]), torch.tensor([5.0, 6.0, 7.0]))
    found = targets(batch)
    assert found.tolist() == [5, 11, 12, 6, 14, 7]
    assert not found.requires_grad


class Table:
    """V with a number for each prefix of a tree, trained on all answers at once."""

    def __init__(self, tree, rewards, exact):
        self.tree, self.rewards, self.exact = tree, rewards, exact
        self.table = {p: torch.zeros((), requires_grad=True) for p in self._prefixes()}
        self.slow = dict.fromkeys(self.table, 0.0)

    def _prefixes(self):
        for n in range(1, self.tree.budget + 1):
            yield from itertools.product(range(self.tree.branch), repeat=n)

    def weights(self):
        """Give the table's cells."""
        return list(self.table.values())

    def epoch(self, rng, size, scale, looks):
        """Every answer of a uniform policy once: its law."""
        answers = self.tree.leaves()
        heads = [a[: t + 1] for a in answers for t in range(len(a))]
        values = torch.stack([self.table[h] for h in heads])
        ahead = torch.tensor([self._ahead(h) for h in heads]) if looks else None
        lengths = torch.full((len(answers),), self.tree.budget)
        yield Batch(values, ahead, lengths, scale(self.rewards))

    def _ahead(self, head):
        nexts = [self.slow.get((*head, z), 0.0) for z in range(self.tree.branch)]
        return sum(nexts) / self.tree.branch

    def follow(self, share):
        """The slow copy is the table itself, rounded down by its share."""
        for prefix, weight in self.table.items():
            self.slow[prefix] += (1 - share) * (float(weight.detach()) - self.slow[prefix])


@pytest.mark.parametrize("scorer", ["fudge", "q"])
def test_the_optimum_of_either_loss_is_the_expected_reward(scorer):
    """On a whole tree both losses end at V(s) = E[r | s], for every prefix."""
    branch, budget = 3, 3
    levels = tuple(torch.zeros(branch**d, branch).log_softmax(-1) for d in range(budget))
    tree = Tree(levels, branch)
    rewards = torch.randn(branch**budget, generator=torch.Generator().manual_seed(0)).double()
    learner = Table(tree, rewards, exact=True)
    train(learner, Recipe(scorer, 0.05, 500, 0), RAW, seed=0)
    after = tree.next_values(rewards)
    for prefix, weight in learner.table.items():
        row = sum(z * branch ** (len(prefix) - 2 - i) for i, z in enumerate(prefix[:-1]))
        assert float(weight.detach()) == pytest.approx(
            float(after[len(prefix) - 1][row][prefix[-1]]), abs=0.02
        )


def test_a_loss_that_is_no_number_is_refused():
    """Training that diverges says so."""
    tree = Tree((torch.zeros(1, 2).log_softmax(-1),), 2)
    learner = Table(tree, torch.tensor([float("inf"), 0.0]).double(), exact=True)
    with pytest.raises(PlumblineError, match="training V diverged"):
        train(learner, Recipe("fudge", 0.1, 1, 0), RAW, seed=0)


# -------------------------------------------------------------------- the data


def told_of(llama, *answers):
    """Make rollouts of given answers, rewarded 0, 1, 2, ..."""
    chats = tuple(Chat.of(f"question {'x' * i}") for i, _ in enumerate(answers))
    return Rollouts(chats, tuple(answers), torch.arange(len(answers)).double())


def test_states_are_those_after_each_token(llama, make_lab, tmp_path):
    """State t of an answer is what the lm_head reads after y_t, the end token's included."""
    answers = [(9, 5, 2), (7,), (30, 31, 32, 33)]
    told = told_of(llama, *answers)
    shards = states_of(make_lab(llama), told, tmp_path, "x", size=2)
    assert len(shards.files) == 2
    found = [shards.load(0), shards.load(1)]
    states = torch.cat([f.states for f in found])
    assert torch.cat([f.lengths for f in found]).tolist() == [3, 1, 4]
    assert torch.cat([f.rewards for f in found]).tolist() == [0, 1, 2]
    at = 0
    with torch.no_grad():
        for chat, answer in zip(told.chats, answers, strict=True):
            whole = torch.tensor([[*llama.encode(chat), *answer]])
            expected = llama.net.base_model(input_ids=whole).last_hidden_state[0]
            n = len(answer)
            assert torch.allclose(states[at : at + n], expected[-n:], atol=1e-5)
            at += n


def test_rollouts_are_the_models_own_and_empty_ones_are_counted(llama, make_lab, make_judge):
    """Answers come from the lab, rewards from the granted model, in the order asked."""
    lab = make_lab(llama, reward=make_judge(lambda chat, text: float(len(text))))
    prompts = [Prompt(f"p{i}", Chat.of(q), cluster="") for i, q in enumerate(("hi", "and you?"))]
    told = rollouts(lab, prompts)
    drawn = lab.generate(prompts)
    assert told.answers == tuple(d.tokens for d in drawn)
    assert told.rewards.tolist() == [len(d.text) for d in drawn]
    assert told.empty == 0


# ---------------------------------------------------------------- the learners


def test_a_heads_batches_hold_values_of_their_own_answers(llama, make_lab, tmp_path):
    """Values, what lies ahead, lengths and rewards belong together, whatever the order."""
    told = told_of(llama, (9, 5, 2), (7,), (30, 31, 32, 33), (8, 2))
    shards = states_of(make_lab(llama), told, tmp_path, "x", size=2)
    head = ValueHead.drawn(32, 16, 2, torch.Generator().manual_seed(0))
    learner = HeadLearner(head, shards, torch.device("cpu"))
    by_reward = {}
    for number in range(2):
        shard = shards.load(number)
        values = head(shard.states).split(shard.lengths.tolist())
        by_reward |= dict(zip(shard.rewards.tolist(), values, strict=True))
    seen = []
    for batch in learner.epoch(torch.Generator().manual_seed(1), 2, RAW, True):
        lengths = batch.lengths.tolist()
        parts = zip(
            batch.rewards.tolist(), batch.values.split(lengths), batch.ahead.split(lengths),
            strict=True,
        )  # fmt: skip
        for reward, values, ahead in parts:
            assert torch.allclose(values, by_reward[reward], atol=1e-6)
            assert torch.allclose(ahead[:-1], by_reward[reward][1:], atol=1e-6)
            seen.append(reward)
    assert sorted(seen) == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", ["value", "vocabulary"])
def test_a_networks_values_are_those_of_texts_read_alone(llama, shape):
    """Batched and padded, V(y^t) is V of the text up to y_t; ahead is what follows."""
    network = SecondNetwork.of(Kit(llama), shape)
    rng = torch.Generator().manual_seed(0)
    for weight in (network.base, network.bias, network.rows):
        weight.copy_(torch.randn(weight.shape, generator=rng))
    told = told_of(llama, (9, 5, 2), (7,), (30, 31, 32, 33))
    with torch.no_grad():
        values = network.values(told.chats, told.answers)
        ahead = network.ahead(told.chats, told.answers, llama.net)
        at = 0
        for chat, answer in zip(told.chats, told.answers, strict=True):
            for t in range(len(answer)):
                text = torch.tensor([[*llama.encode(chat), *answer[: t + 1]]])
                states = network.body(input_ids=text).last_hidden_state[0]
                if shape == "value":
                    expected = network.value(states[-1])
                else:
                    expected = network.row(states[-2])[answer[t]]
                assert float(values[at]) == pytest.approx(float(expected), abs=1e-4)
                if t + 1 < len(answer):
                    p = llama.net(text).logits[0, -1].softmax(-1)
                    mean = (p * network.row(states[-1])).sum() if shape == "vocabulary" else None
                    following = values[at + 1] if mean is None else mean
                    assert float(ahead[at]) == pytest.approx(float(following), abs=1e-4)
                at += 1


@pytest.mark.parametrize("scorer", ["fudge", "q"])
@pytest.mark.parametrize("shape", ["value", "vocabulary"])
def test_a_network_learns_and_the_policy_does_not(llama, shape, scorer):
    """Training moves the copy, follows it slowly, and leaves the policy's weights alone."""
    before = {name: w.clone() for name, w in llama.net.state_dict().items()}
    network = SecondNetwork.of(Kit(llama), shape)
    told = told_of(llama, (9, 5, 2), (7, 2), (30, 31, 32, 33), (40, 41, 2))
    learner = NetworkLearner(network, told, llama.net)
    losses = train(learner, Recipe(scorer, 1e-2, 12, 2), Scale.of(told.rewards), seed=0)
    assert losses[-1] < 0.3 * losses[0]
    assert all(torch.equal(w, before[name]) for name, w in llama.net.state_dict().items())
    fast, slow = network.base.detach(), learner.slow.base.detach()
    assert 0 < float((slow - fast).norm()) < float(fast.norm())
    again = SecondNetwork.of(Kit(llama), shape, network.tensors())
    with torch.no_grad():
        one, two = (n.values(told.chats, told.answers) for n in (network, again))
    assert torch.equal(one, two)


def test_quality_is_read_at_shares_of_each_answer():
    """R^2 at share 1 looks at last prefixes, at share 0 at first ones."""
    lengths, rewards = torch.tensor([3, 1, 2]), torch.tensor([1.0, -1.0, 2.0]).double()
    values = torch.tensor([0.0, 0.0, 1.0, -1.0, 0.0, 2.0])
    found, error = quality(values, lengths, rewards)
    assert found["1"] == pytest.approx(1.0)
    assert found["0"] == pytest.approx(1 - 5 / 6)
    assert error == error_of(values[torch.tensor([2, 3, 5])], rewards)
