"""Every answer at once: a policy as a tree of next-token distributions, in float64.

An answer goes on with one of ``branch`` tokens or ends, until the budget is spent.
``levels[d]`` holds log p(next | prefix) for the branch**d prefixes of d tokens in
lexicographic order: the first ``branch`` columns go on, a further last column ends.  A tree
without that column has answers of one length.  *Leaves* are whole answers: for each
length the ended ones, then those that spent the budget.

    V(s)      = sum_z p(z|s) V([s,z])                                value
    V_soft(s) = (1/strength) log sum_z p(z|s) exp(strength V_soft([s,z]))   soft value

with V = r at the leaves (Mudgal et al. 2023, arXiv 2310.17022).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.api import PlumblineError

_ROUNDING = 1e-4  # float32 log-probabilities of a distribution sum to one within this


@dataclass(frozen=True)
class Tree:
    """A policy over all answers up to a budget; see the module's docstring for the order."""

    levels: tuple[Tensor, ...]
    branch: int

    @classmethod
    def of_table(cls, table: Tensor, branch: int) -> Tree:
        """Build from log-probabilities after every prefix of the full-length answers.

        table  [branch**(budget-1), budget, columns]: for each longest prefix, in
               lexicographic order, the distributions after 0, 1, ... of its tokens.
        """
        budget = table.shape[1]
        levels = [
            table[:: branch ** (budget - 1 - depth), depth].double() for depth in range(budget)
        ]
        return cls(tuple(level.log_softmax(-1) for level in levels), branch)

    @classmethod
    def of_leaves(cls, log_probs: Sequence[Tensor], branch: int, budget: int) -> Tree:
        """Build from the log-probability of every token of every answer, in leaf order.

        Raises PlumblineError where the next-token probabilities of a prefix do not sum to
        one: what gave them is not a policy (an edit that looks ahead, for instance).
        """
        full = torch.stack(list(log_probs[-(branch**budget) :])).double()
        ends = len(log_probs) > branch**budget
        levels, start = [], 0
        for depth in range(budget):
            rows = branch**depth
            level = full[:, depth].view(rows, branch, -1)[:, :, 0]
            if ends:
                stopped = torch.stack([lp[-1] for lp in log_probs[start : start + rows]])
                level = torch.cat([level, stopped.double()[:, None]], dim=1)
                start += rows
            mass = level.logsumexp(-1)
            if not bool((mass.abs() < _ROUNDING).all()):
                raise PlumblineError(
                    f"after {depth} tokens the next-token probabilities sum to "
                    f"{float(mass[mass.abs().argmax()].exp()):.6f}, not to one"
                )
            levels.append(level.log_softmax(-1))
        return cls(tuple(levels), branch)

    @property
    def budget(self) -> int:
        """Longest answer, in tokens, the end included."""
        return len(self.levels)

    @property
    def ends(self) -> bool:
        """Whether an answer may end before the budget is spent."""
        return self.levels[0].shape[1] > self.branch

    def leaves(self) -> list[tuple[int, ...]]:
        """Give the tokens of every answer, in order."""
        out: list[tuple[int, ...]] = []
        if self.ends:
            for depth in range(self.budget):
                out += [(*p, self.branch) for p in prefixes(self.branch, depth)]
        return out + prefixes(self.branch, self.budget)

    def log_law(self) -> Tensor:
        """Give log p(answer) for every leaf: [leaves]."""
        ended, reached = [], self.levels[0].new_zeros(1)
        for level in self.levels:
            joint = reached[:, None] + level
            ended.append(joint[:, self.branch :].reshape(-1))
            reached = joint[:, : self.branch].reshape(-1)
        return torch.cat([*ended, reached])

    def next_values(self, rewards: Tensor, strength: float = 0.0) -> tuple[Tensor, ...]:
        """Give the value of each prefix after each next token, shaped as ``levels``.

        rewards   [leaves].
        strength  0 for the value, otherwise the soft value at that strength.
        """
        sizes = [level.shape[0] * (level.shape[1] - self.branch) for level in self.levels]
        parts = rewards.double().split([*sizes, self.branch**self.budget])  # type: ignore[no-untyped-call]
        *ended, reached = parts
        out: list[Tensor] = []
        for level, stopped in zip(reversed(self.levels), reversed(ended), strict=True):
            rows = level.shape[0]
            after = torch.cat([reached.view(rows, -1), stopped.view(rows, -1)], dim=1)
            out.append(after)
            reached = _mean(level, after, strength)
        return tuple(reversed(out))

    def values(self, rewards: Tensor, strength: float = 0.0) -> tuple[Tensor, ...]:
        """Give the (soft) value of every prefix: one [branch**d] tensor for each length d."""
        after = self.next_values(rewards, strength)
        return tuple(_mean(p, v, strength) for p, v in zip(self.levels, after, strict=True))

    def guided(self, next_values: tuple[Tensor, ...], strength: float) -> Tree:
        """Draw each token from p(z|s) exp(strength * value([s,z])), normalised.

        With the value this is controlled decoding; with the soft value at the same
        strength it is the tilted policy p(y) exp(strength * r(y)) / Z itself.
        """
        pairs = zip(self.levels, next_values, strict=True)
        return Tree(tuple((p + strength * v).log_softmax(-1) for p, v in pairs), self.branch)


def _mean(log_p: Tensor, after: Tensor, strength: float) -> Tensor:
    if strength == 0.0:
        return (log_p.exp() * after).sum(-1)
    return torch.logsumexp(log_p + strength * after, dim=-1) / strength


def prefixes(branch: int, length: int) -> list[tuple[int, ...]]:
    """Give all strings of ``length`` tokens, in lexicographic order."""
    return list(itertools.product(range(branch), repeat=length))


def expected(log_law: Tensor, rewards: Tensor) -> float:
    """E[r] under a law over leaves."""
    return float((log_law.exp() * rewards).sum())


def divergence(log_q: Tensor, log_p: Tensor) -> float:
    """KL(q || p) in nats; infinite where q puts mass on what p cannot say."""
    held = log_q > -torch.inf
    kl = float((log_q[held].exp() * (log_q[held] - log_p[held])).sum())
    return max(kl, 0.0)  # equal laws differ by rounding
