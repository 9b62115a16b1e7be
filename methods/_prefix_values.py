"""Learning V, the expected final reward of a text that is still being written.

    fudge   L = mean_t ( V(y^t) - r )^2                 every prefix meets the final reward
    q       L = mean_t ( V(y^t) - v_t )^2,              v_T = r,
            v_t = sum_z p(z|y^t) V'([y^t, z])           t < T; V' a slow copy of V

Where a head gives all z at once the sum over z is exact; elsewhere it is the drawn token's
V'(y^{t+1}), whose mean over answers drawn from p is that sum.

Mudgal et al. 2023, "Controlled Decoding from Language Models", arXiv 2310.17022; Yang and
Klein 2021 (FUDGE), arXiv 2104.05218.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from harness.api import PlumblineError
from methods._rollouts import Rollouts
from methods._second_network import SecondNetwork
from methods._trajectories import Shards
from methods._value_head import ValueHead
from methods._value_training import SHARES, Scale, error_of, r_squared

How = Literal["fudge", "q"]
SLOW = 0.95  # what the slow copy keeps of itself at a step


@dataclass(frozen=True)
class Recipe:
    """How V is trained: Adam, no decay, no schedule; ``batch`` answers a step."""

    scorer: How
    learning_rate: float
    epochs: int
    batch: int


@dataclass(frozen=True)
class Batch:
    """Some answers' prefixes, end to end.

    ahead    [tokens] v_t where t < T (anything at t = T), or None where it is not asked for.
    rewards  [answers] as V sees them.
    """

    values: Tensor
    ahead: Tensor | None
    lengths: Tensor
    rewards: Tensor


class Learner(Protocol):
    """A V with weights to learn."""

    def weights(self) -> list[Tensor]:
        """Give the leaves."""
        ...

    def epoch(self, rng: torch.Generator, size: int, scale: Scale, looks: bool) -> Iterator[Batch]:
        """Give every answer once, in batches; ``looks`` asks for what lies ahead."""
        ...

    def follow(self, share: float) -> None:
        """Move the slow copy: keep ``share`` of it."""
        ...


def targets(batch: Batch) -> Tensor:
    """Give what V is to be at every prefix: [tokens]."""
    spread = batch.rewards.to(batch.values.dtype)
    if batch.ahead is None:
        return spread.repeat_interleave(batch.lengths)
    out = batch.ahead.detach().clone()
    out[batch.lengths.cumsum(0) - 1] = spread
    return out


def train(learner: Learner, recipe: Recipe, scale: Scale, seed: int) -> list[float]:
    """Train V; give the mean loss of every epoch.

    Raises PlumblineError where the loss is no longer finite.
    """
    rng = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(learner.weights(), lr=recipe.learning_rate)
    losses = []
    for _ in range(recipe.epochs):
        total = tokens = 0.0
        for batch in learner.epoch(rng, recipe.batch, scale, recipe.scorer == "q"):
            loss = (batch.values - targets(batch)).square().mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            learner.follow(SLOW)
            total += float(loss.detach()) * len(batch.values)
            tokens += len(batch.values)
        losses.append(total / tokens)
        if not losses[-1] < float("inf"):
            raise PlumblineError(f"training V diverged: the loss of an epoch is {losses[-1]}")
    return losses


class HeadLearner:
    """V on stored states of the policy: a small network, nothing else is run."""

    def __init__(self, head: ValueHead, shards: Shards, device: torch.device) -> None:
        self.shards, self.device = shards, device
        moved = head.to(device, torch.float32).tensors()
        self._weights = {name: t.clone().requires_grad_() for name, t in moved.items()}
        self._slow = {name: t.clone() for name, t in moved.items()}

    @property
    def head(self) -> ValueHead:
        """V as it is."""
        return ValueHead.of({name: t.detach().clone() for name, t in self._weights.items()})

    def weights(self) -> list[Tensor]:
        """Give the leaves."""
        return list(self._weights.values())

    def epoch(self, rng: torch.Generator, size: int, scale: Scale, looks: bool) -> Iterator[Batch]:
        """Shards in random order, answers in random order within each."""
        for number in torch.randperm(len(self.shards.files), generator=rng).tolist():
            shard = self.shards.load(number)
            order = torch.randperm(len(shard), generator=rng)
            for start in range(0, len(shard), size):
                some = shard.some(order[start : start + size])
                states = some.states.to(self.device, torch.float32)
                values = ValueHead.of(self._weights)(states).cpu()
                ahead = ValueHead.of(self._slow)(states).cpu().roll(-1) if looks else None
                yield Batch(values, ahead, some.lengths, scale(some.rewards))

    def follow(self, share: float) -> None:
        """Move the slow copy."""
        for name, slow in self._slow.items():
            slow.lerp_(self._weights[name].detach(), 1 - share)


class NetworkLearner:
    """V as a network of its own, trained from the policy's weights on.

    policy  gives p(z|y^t) where the head's values are averaged over z.
    """

    def __init__(self, network: SecondNetwork, told: Rollouts, policy: torch.nn.Module) -> None:
        self.network, self.told, self.policy = network, told, policy
        self.slow = deepcopy(network)
        for weight in network.parameters():
            weight.requires_grad_()

    def weights(self) -> list[Tensor]:
        """Give the leaves."""
        return list(self.network.parameters())

    def epoch(self, rng: torch.Generator, size: int, scale: Scale, looks: bool) -> Iterator[Batch]:
        """Answers in random order."""
        rewards = scale(self.told.rewards)
        order = torch.randperm(len(self.told), generator=rng)
        for start in range(0, len(order), size):
            some = order[start : start + size]
            chats = [self.told.chats[i] for i in some.tolist()]
            answers = [self.told.answers[i] for i in some.tolist()]
            values = self.network.values(chats, answers).cpu()
            ahead = None
            if looks:
                with torch.no_grad():
                    ahead = self.slow.ahead(chats, answers, self.policy).cpu()
            yield Batch(values, ahead, self.told.lengths[some], rewards[some])

    def follow(self, share: float) -> None:
        """Move the slow copy."""
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - share)


def quality(values: Tensor, lengths: Tensor, rewards: Tensor) -> tuple[dict[str, float], float]:
    """R^2 of V on answers that training did not see, at shares of their length.

    values   [tokens] of the answers' prefixes, end to end.
    rewards  [answers] as V sees them: a V that knows nothing says 0, their training mean.

    Also gives the standard error of R^2 at the last token.
    """
    first = lengths.cumsum(0) - lengths
    at = {share: values[first + (share * (lengths - 1)).round().long()] for share in SHARES}
    found = {f"{share:g}": r_squared(v, rewards) for share, v in at.items()}
    return found, error_of(at[1.0], rewards)
