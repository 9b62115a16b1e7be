"""Temporal-difference learning of V from whole answers, and how good V became.

For an answer of T states, with a reward r at its end only:

    L = sum_{t=0}^{T-2} ( V(o_t) - sg[G_t] )^2  +  ( V(o_{T-1}) - r )^2
    G_t = (1 - lambda) V(o_{t+1}) + lambda G_{t+1},  G_{T-1} = r

averaged over answers; sg stops the gradient.  With lambda (``trace``) 0 this is TD(0), where
G_t = V(o_{t+1}); with 1 every state is regressed on the reward (Sutton and Barto, 2nd ed., 12.1).
``anchor="first"`` puts the reward on o_0 and ``bootstrap="residual"`` lets the gradient through,
as the published code does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.api import PlumblineError
from methods._trajectories import Shards, Trajectories
from methods._value_head import ValueHead

Anchor = Literal["last", "first"]
Bootstrap = Literal["stopgrad", "residual"]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of an answer, where R^2 is reported


@dataclass(frozen=True)
class Recipe:
    """How V is trained: Adam, no decay, no schedule, the last epoch is used.

    batch  answers per step.
    trace  lambda of the returns, in [0, 1]; more than 0 only as the paper anchors and stops.
    dtype  precision of weights, optimiser and states.
    """

    layers: int = 3
    hidden: int = 128
    learning_rate: float = 1e-3
    epochs: int = 10
    batch: int = 64
    anchor: Anchor = "last"
    bootstrap: Bootstrap = "stopgrad"
    trace: float = 0.0
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Scale:
    """Rewards as V sees them: (r - mean) / std."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, rewards: Tensor) -> Scale:
        """Measure on the training rewards; refuses rewards that are all alike."""
        if len(rewards) < 2 or not float(rewards.double().std()) > 1e-12:
            raise PlumblineError(
                f"the {len(rewards)} training rewards are all alike, so there is nothing to learn"
            )
        return cls(float(rewards.double().mean()), float(rewards.double().std()))

    def __call__(self, rewards: Tensor) -> Tensor:
        """Standardise."""
        return (rewards.double() - self.mean) / self.std


def returns(values: Tensor, batch: Trajectories, rewards: Tensor, trace: float) -> Tensor:
    """Give G_t of every state: [tokens].  values [tokens]; rewards [answers] as V sees them."""
    longest = int(batch.lengths.max())
    answer = torch.arange(len(batch)).repeat_interleave(batch.lengths)
    left = batch.ends.repeat_interleave(batch.lengths) - torch.arange(len(values))
    step = longest - 1 - left  # answers end together, in the last column
    aligned = values.new_zeros(len(batch), longest)
    aligned[answer, step] = values
    column = torch.arange(longest)
    ahead = column[:, None] - column
    shares = torch.where(ahead > 0, (1 - trace) * trace ** (ahead - 1).clamp(min=0), 0.0)
    due = trace ** (longest - 1 - column) * rewards[:, None]
    return (aligned @ shares.to(values.dtype) + due.to(values.dtype))[answer, step]


def td_loss(
    values: Tensor,
    batch: Trajectories,
    rewards: Tensor,
    anchor: Anchor,
    bootstrap: Bootstrap,
    trace: float = 0.0,
) -> Tensor:
    """Give L.  values [tokens], laid out as ``batch``; rewards [answers] as V sees them."""
    last = batch.ends
    goes_on = torch.ones(len(values), dtype=torch.bool)
    goes_on[last] = False
    follows = values[1:] if bootstrap == "residual" else values[1:].detach()
    if trace:
        follows = returns(values.detach(), batch, rewards, trace)[:-1]
    inner = (values[:-1] - follows)[goes_on[:-1]].square().sum()
    ends = values[last if anchor == "last" else batch.starts]
    return (inner + (ends - rewards.to(ends.dtype)).square().sum()) / len(batch)


def train(
    shards: Shards, recipe: Recipe, scale: Scale, seed: int, device: torch.device
) -> tuple[ValueHead, list[float]]:
    """Train V; gives it in float32 on the device, and the mean loss of every epoch.

    Raises PlumblineError where the loss is no longer finite.
    """
    rng = torch.Generator().manual_seed(seed)
    width = shards.load(0).states.shape[1]
    drawn = ValueHead.drawn(width, recipe.hidden, recipe.layers, rng).to(device, recipe.dtype)
    weights = {name: t.clone().requires_grad_() for name, t in drawn.tensors().items()}
    head = ValueHead.of(weights)
    optimiser = torch.optim.Adam(weights.values(), lr=recipe.learning_rate)
    losses: list[float] = []
    for _ in range(recipe.epochs):
        total = 0.0
        for number in torch.randperm(len(shards.files), generator=rng).tolist():
            shard = shards.load(number)
            order = torch.randperm(len(shard), generator=rng)
            for start in range(0, len(shard), recipe.batch):
                batch = shard.some(order[start : start + recipe.batch])
                values = head(batch.states.to(device, recipe.dtype)).cpu()
                loss = td_loss(
                    values,
                    batch,
                    scale(batch.rewards),
                    recipe.anchor,
                    recipe.bootstrap,
                    recipe.trace,
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += float(loss.detach()) * len(batch)
        losses.append(total / len(shards))
        if not losses[-1] < float("inf"):
            raise PlumblineError(f"training V diverged: the loss of an epoch is {losses[-1]}")
    trained = {name: t.detach().clone() for name, t in weights.items()}
    return ValueHead.of(trained).to(torch.float32), losses


def r_squared(predicted: Tensor, rewards: Tensor, constant: float = 0.0) -> float:
    """Give 1 - sum (V - r)^2 / sum (c - r)^2: above 0 is better than always saying c."""
    rewards = rewards.double()
    floor = float((rewards - constant).square().sum())
    return 1 - float((predicted.double() - rewards).square().sum()) / floor if floor else 0.0


def error_of(predicted: Tensor, rewards: Tensor, constant: float = 0.0) -> float:
    """Give the standard error of ``r_squared`` over the answers it was measured on."""
    rewards = rewards.double()
    floor = (rewards - constant).square()
    gained = floor - (predicted.double() - rewards).square()
    if len(rewards) < 2 or not float(floor.mean()):
        return math.inf
    return float(gained.std() / floor.mean()) / math.sqrt(len(rewards))


def quality_of(
    head: ValueHead, held: Shards, scale: Scale, constant: float
) -> tuple[dict[str, float], float]:
    """Give R^2 at shares of answers that training did not see, and its standard error at the last.

    constant  what it is held against: the mean training reward, as V sees it.
    """
    found: dict[str, list[Tensor]] = {f"{share:g}": [] for share in SHARES}
    for number in range(len(held.files)):
        shard = held.load(number)
        for share in SHARES:
            states = shard.at(share).to(head.first.device, torch.float32)
            found[f"{share:g}"].append(head(states).cpu())
    rewards = scale(held.rewards)
    values = {share: torch.cat(v) for share, v in found.items()}
    quality = {share: r_squared(v, rewards, constant) for share, v in values.items()}
    return quality, error_of(values["1"], rewards, constant)


def doubts(quality: dict[str, float], error: float, held: int) -> list[str]:
    """Say what a reader of the table must know about V."""
    said = []
    last, first = quality["1"], quality["0"]
    if not last > 2 * error:
        said.append(
            f"the value network does not beat a constant: R^2 {last:.2f} of the reward at the last "
            f"token of {held} held-out answers, standard error {error:.2f}"
        )
    elif not last > first:
        said.append(
            f"the value network knows no more at an answer's end than before it: R^2 {last:.2f} "
            f"against {first:.2f} on {held} held-out answers"
        )
    return said
