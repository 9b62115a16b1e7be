"""Properties 7, 8 and 9 of a faithful RE-CONTROL: what V is trained on, and how well it learns."""

import math

import pytest
import torch

from harness.errors import PlumblineError
from methods._trajectories import Shards, Trajectories, _write
from methods._value_head import ValueHead
from methods._value_training import (
    Recipe,
    Scale,
    doubts,
    error_of,
    quality_of,
    r_squared,
    returns,
    td_loss,
    train,
)

CPU = torch.device("cpu")


def answers(*lengths, width=2):
    """Make answers of these lengths; state t of answer i is (i, t, ...)."""
    rows = [torch.tensor([[float(i), float(t)]]) for i, n in enumerate(lengths) for t in range(n)]
    return Trajectories(torch.cat(rows), torch.tensor(lengths), torch.arange(len(lengths)).double())


def stored(folder, *shards):
    """Write shards."""
    files = []
    for i, shard in enumerate(shards):
        files.append(folder / f"{i}.safetensors")
        _write(files[-1], shard)
    return Shards(tuple(files), torch.cat([s.rewards for s in shards]))


@pytest.mark.parametrize("lengths", [(1,), (3,), (1, 1, 1), (4, 1, 3), (2, 5, 1, 7)])
def test_7_the_terminal_state_is_the_last(lengths):
    """7. The state that the reward belongs to is the last of its answer, whatever the lengths."""
    batch = answers(*lengths)
    assert batch.states[batch.ends].tolist() == [[i, n - 1] for i, n in enumerate(lengths)]
    assert batch.states[batch.starts].tolist() == [[i, 0.0] for i, _ in enumerate(lengths)]


def test_picking_answers_picks_their_states():
    """Some answers of a shard keep their states, lengths and rewards, in the order asked for."""
    picked = answers(4, 1, 3).some(torch.tensor([2, 0]))
    assert picked.states.tolist() == [[2, 0], [2, 1], [2, 2], [0, 0], [0, 1], [0, 2], [0, 3]]
    assert picked.lengths.tolist() == [3, 4]
    assert picked.rewards.tolist() == [2, 0]


def test_a_share_of_an_answer_is_its_state_there():
    """Share 0 is the first state, 1 the last, 0.5 the middle one, of answers of any length."""
    batch = answers(5, 1, 3)
    assert batch.at(0.0)[:, 1].tolist() == [0, 0, 0]
    assert batch.at(1.0)[:, 1].tolist() == [4, 0, 2]
    assert batch.at(0.5)[:, 1].tolist() == [2, 0, 1]


def test_the_loss_is_worked_by_hand():
    """Differences within an answer, none across answers, the reward at the last state."""
    batch = answers(3, 1)
    values = torch.tensor([1.0, 2.0, 4.0, 7.0])
    rewards = torch.tensor([5.0, 10.0])
    assert float(td_loss(values, batch, rewards, "last", "stopgrad")) == (1 + 4 + 1 + 9) / 2
    assert float(td_loss(values, batch, rewards, "first", "stopgrad")) == (1 + 4 + 16 + 9) / 2


@pytest.mark.parametrize("trace", [0.0, 0.3, 0.9, 1.0])
def test_returns_are_the_recursion(trace):
    """G is r at the last state and (1 - lambda) V' + lambda G' before it, answer by answer."""
    batch, rewards = answers(4, 1, 3), torch.tensor([5.0, 10.0, -2.0])
    values = torch.tensor([1.0, 2.0, 4.0, 7.0, 0.5, 3.0, -1.0, 6.0])
    expected, number = [], 0
    for length, reward in zip((4, 1, 3), rewards.tolist(), strict=True):
        mine = [reward]
        for t in reversed(range(number, number + length - 1)):
            mine.insert(0, (1 - trace) * float(values[t + 1]) + trace * mine[0])
        expected += mine
        number += length
    assert returns(values, batch, rewards, trace).tolist() == pytest.approx(expected, rel=1e-6)


def test_lambda_is_no_difference_at_0_and_regression_at_1():
    """At lambda 0 the loss is TD(0)'s, at 1 every state is held against r; G is stopped."""
    batch, rewards = answers(3, 1), torch.tensor([5.0, 10.0])
    values = torch.tensor([1.0, 2.0, 4.0, 7.0], requires_grad=True)
    loss = td_loss(values, batch, rewards, "last", "stopgrad", 1.0)
    assert float(loss.detach()) == (16 + 9 + 1 + 9) / 2
    loss.backward()
    assert values.grad.tolist() == [-4.0, -3.0, -1.0, -3.0]
    values = values.detach()
    plain, nearly = (td_loss(values, batch, rewards, "last", "stopgrad", x) for x in (0.0, 1e-12))
    assert float(nearly) == pytest.approx(float(plain))


def test_returns_are_not_pulled_down():
    """Half a return is the next value, and it is held still: V(o_0) moves, V(o_1) for r alone."""
    values = torch.tensor([1.0, 3.0], requires_grad=True)
    td_loss(values, answers(2), torch.tensor([0.0]), "last", "stopgrad", 0.5).backward()
    assert values.grad.tolist() == [-1.0, 6.0]


def test_the_bootstrap_is_not_pulled_down():
    """With a stopped gradient V(o_t) moves to V(o_{t+1}), never the other way round."""
    batch, rewards = answers(2), torch.tensor([0.0])
    slopes = {}
    for bootstrap in ("stopgrad", "residual"):
        values = torch.tensor([1.0, 3.0], requires_grad=True)
        td_loss(values, batch, rewards, "last", bootstrap).backward()
        slopes[bootstrap] = values.grad.tolist()
    assert slopes == {"stopgrad": [-4.0, 6.0], "residual": [-4.0, 10.0]}


def walks(count, steps, seed):
    """Make random walks whose reward is where they end; states are (x / s, t / T)."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(count, steps, generator=rng).cumsum(1)
    time = torch.arange(steps).expand(count, -1) / steps
    size = steps**0.5
    return Trajectories(
        torch.stack([x / size, time], -1).flatten(0, 1),
        torch.full((count,), steps),
        (x[:, -1] / size).double(),
    )


def learnt(folder, steps, iterations, batch, **how):
    """Train V on walks; give R^2 against the true value, the place itself, at shares of a walk."""
    per_epoch = 20 * batch
    shards = stored(folder, walks(per_epoch, steps, 0))
    recipe = Recipe(
        layers=3, hidden=64, learning_rate=1e-3, epochs=iterations // 20, batch=batch, **how
    )
    head, _ = train(shards, recipe, Scale(), 0, CPU)
    fresh = walks(500, steps, 1)
    return {
        share: r_squared(head(s := fresh.at(share)), s[:, 0], float(s[:, 0].mean()))
        for share in (0.25, 0.5, 0.75, 1.0)
    }


def test_8_a_random_walk_is_valued_rightly(tmp_path):
    """8. On a short walk V is the true value (R^2 >= 0.9) from a quarter of the way on."""
    found = learnt(tmp_path, 16, 400, 64)
    assert min(found.values()) >= 0.9, found


def test_8_as_published_mid_walk_is_valued_at_nothing(tmp_path):
    """8. With the reward on the first state and the gradient let through, V knows nothing."""
    found = learnt(tmp_path, 16, 100, 64, anchor="first", bootstrap="residual")
    assert abs(found[0.5]) < 0.2, found
    assert found[1.0] < 0.2, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "low", "high"),
    [({}, 0.9, 1.0), ({"anchor": "first", "bootstrap": "residual"}, -0.2, 0.2)],
    ids=["paper", "official"],
)
def test_8_a_long_random_walk(tmp_path, how, low, high):
    """8. The same at the length of an answer, 128 states, mid-way."""
    found = learnt(tmp_path, 128, 500, 256, **how)
    assert low <= found[0.5] <= high, found


def test_16_bit_training_is_the_published_precision(tmp_path):
    """In bfloat16 weights move on bfloat16's grid; the trained head comes back in float32."""
    shards = stored(tmp_path, walks(40, 4, 0))
    head, _ = train(shards, Recipe(hidden=8, epochs=1, dtype=torch.bfloat16), Scale(), 0, CPU)
    assert head.first.dtype == torch.float32
    assert torch.equal(head.first, head.first.bfloat16().float())


def test_training_depends_on_its_seed_alone(tmp_path):
    """Equal seeds train equal networks, other seeds others; global noise is left alone."""
    shards = stored(tmp_path, walks(40, 4, 0), walks(30, 4, 1))
    before = torch.get_rng_state()
    heads = [train(shards, Recipe(hidden=8, epochs=2), Scale(), s, CPU)[0] for s in (3, 3, 4)]
    assert torch.equal(heads[0].first, heads[1].first)
    assert not torch.equal(heads[0].first, heads[2].first)
    assert torch.equal(before, torch.get_rng_state())


def test_shuffling_deals_the_same_rewards_anew(tmp_path):
    """The control keeps every reward and every state, and breaks what belongs together."""
    shards = stored(tmp_path, answers(3, 2, 4), answers(1, 1, 2, 2))
    shards.shuffled(0)
    dealt = shards.shuffled(1)
    read = torch.cat([dealt.load(i).rewards for i in range(2)])
    assert torch.equal(read, dealt.rewards)
    assert sorted(read.tolist()) == sorted(shards.rewards.tolist())
    assert not torch.equal(read, shards.rewards)
    assert torch.equal(dealt.load(0).states, answers(3, 2, 4).states)


def test_rewards_are_standardised_and_the_scale_is_kept():
    """V learns (r - mean) / std of the training rewards."""
    rewards = torch.tensor([1.0, 2.0, 6.0])
    scale = Scale.of(rewards)
    assert scale.mean == 3.0
    assert float(scale(rewards).std()) == pytest.approx(1.0)
    assert float(scale(rewards).mean()) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("rewards", [[], [1.0], [2.0, 2.0, 2.0]])
def test_rewards_that_are_all_alike_are_refused(rewards):
    """A reward that never varies teaches nothing, and is refused."""
    with pytest.raises(PlumblineError, match="all alike"):
        Scale.of(torch.tensor(rewards))


def test_a_diverging_loss_is_refused(tmp_path):
    """A loss that is not finite stops the training with one line."""
    shards = stored(tmp_path, walks(40, 4, 0))
    with pytest.raises(PlumblineError, match="diverged"):
        train(shards, Recipe(hidden=8, epochs=9, learning_rate=1e30), Scale(), 0, CPU)


def test_r_squared_is_worked_by_hand():
    """1 is perfect, 0 is the constant, below it worse than the constant."""
    rewards = torch.tensor([1.0, 3.0])
    assert r_squared(rewards, rewards, 2.0) == 1.0
    assert r_squared(torch.tensor([2.0, 2.0]), rewards, 2.0) == 0.0
    assert r_squared(torch.tensor([3.0, 1.0]), rewards, 2.0) == -3.0


def test_the_error_of_r_squared_is_worked_by_hand():
    """Gains 1 and 3 over a constant with squared errors 4 and 4: (sd sqrt(2)) / 4 / sqrt(2)."""
    rewards = torch.tensor([2.0, -2.0])
    predicted = rewards - torch.tensor([3.0, 1.0]).sqrt()
    assert error_of(predicted, rewards, 0.0) == pytest.approx(0.25, rel=1e-6)
    assert error_of(rewards[:1], rewards[:1], 0.0) == math.inf
    torch.manual_seed(0)
    noise = torch.randn(300, 40)
    rewards = torch.randn(40)
    found = [r_squared(0.2 * n, rewards) for n in noise]
    told = [error_of(0.2 * n, rewards) for n in noise]
    assert sum(told) / 300 == pytest.approx(float(torch.tensor(found).std()), rel=0.2)


def test_9_quality_is_read_at_shares_of_held_out_answers(tmp_path):
    """9. A V that knows the answer at its end only has R^2 0 before and 1 there."""
    lengths = torch.tensor([5, 9, 9, 5])
    ends = torch.cat([torch.arange(n) == n - 1 for n in lengths.tolist()])
    rewards = torch.tensor([-1.0, 2.0, 0.5, -1.5])
    states = (ends * rewards.repeat_interleave(lengths))[:, None].repeat(1, 2)
    shards = stored(tmp_path, Trajectories(states.float(), lengths, rewards.double()))
    knows = ValueHead(
        torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.zeros(2), torch.tensor([1.0, -1.0]),
        torch.zeros(()),
    )  # fmt: skip
    quality, error = quality_of(knows, shards, Scale(), 0.0)
    assert 0 < error < 1
    assert quality == {"0": 0.0, "0.25": 0.0, "0.5": 0.0, "0.75": 0.0, "1": 1.0}


def test_9_a_value_network_that_knows_nothing_is_doubted():
    """9. Not beating a constant, or knowing no more at the end than at the start, is said."""
    assert doubts({"0": 0.1, "1": 0.5}, 0.1, 9) == []
    assert "does not beat a constant: R^2 -0.30" in doubts({"0": -0.4, "1": -0.3}, 0.1, 9)[0]
    assert "does not beat a constant: R^2 0.00" in doubts({"0": -0.4, "1": 0.0}, 0.1, 9)[0]
    assert "R^2 0.19 of the reward" in doubts({"0": 0.1, "1": 0.19}, 0.1, 9)[0]
    assert "no more at an answer's end" in doubts({"0": 0.5, "1": 0.4}, 0.1, 9)[0]
