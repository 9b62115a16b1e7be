"""Transfer Q*: every next token weighs the reward of where an aligned model would take it.

    Q(s, z) = r([s, z, y'])             y' = up to ``tokens`` more, greedily by rho
    pi(z|s) ~ p(z|s) exp(w Q(s, z))     for z among the k likeliest tokens

    direct    rho is aligned to r itself
    indirect  rho is aligned to another reward r_BL, and Q weighs how far r exceeds it:
              Q(s, z) = u(z) r([s, z, y']),   u(z) = exp(c (r - r_BL)), mean 1 over candidates

Chakraborty et al. 2024, "Transfer Q Star: Principled Decoding for LLM Alignment", arXiv
2405.20495 (NeurIPS 2024).  ARGS asks the reward model about an unfinished text
(methods/reward_guided.py); here it reads how the text might go on.  With tokens = 0 they are
one.

rho is a model of the protocol, ``[models.aligned]`` by default, or the bare policy.  Its reward
r_BL is what its tuning implies, beta log(rho / p) of the candidate and its rollout.

Where the published code does otherwise: it has one model for p and rho, takes r_BL from the very
checkpoint that is r (so u is 1), reads every text anew for every candidate, one prompt at a time,
and never stops at the end token.  Here a rollout ends where an answer does, and goes no further
than the budget.  methods/cards/transfer_q.md has the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.api import (
    Bonus,
    Companion,
    Fitted,
    Kit,
    Method,
    Need,
    Rollouts,
    Steering,
    Step,
    TokenRule,
    above,
    at_least,
    finite,
    guided,
)
from methods._beside import counted, fit, named

K = 10  # candidates in the published experiments
NAME = "transfer_q"


@dataclass(frozen=True)
class TransferQ(Method):
    """Weighs ``k`` candidate tokens by the reward of their rollouts.

    w        weight of Q: nats per unit of reward (1 / alpha in the paper).
    k        candidates a step; 0 is the whole vocabulary, None is 10 or what there is.
    tokens   of a rollout, behind the candidate; 0 is ARGS.
    rollout  role of rho; "policy" is the policy itself.
    correction  c of the indirect form; beta: of the reward that rho's tuning implies.
    rule     how the next token follows from the scores.  tau divides those of a sampled token.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reward", "aligned"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "w": (0.5, 1.0, 1.5, 2.0, 4.0),
        "k": (5, 10, 20),
        "tokens": (0, 5, 10, 20, 40),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"w": 0.0, "k": 0}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "transfer_q_direct": {"form": "direct", "rule": "greedy"},
        "transfer_q_indirect": {"form": "indirect", "tokens": 5, "rule": "greedy"},
    }

    w: float = 1.0
    k: int | None = None
    tokens: int = 20
    rollout: str = "aligned"
    form: Literal["direct", "indirect"] = "direct"
    correction: float = 0.5
    beta: float = 0.1
    rule: Literal["sample", "greedy"] = "sample"
    tau: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "w", "correction", "beta")
        at_least(self, k=0, tokens=0)
        above(self, tau=0)

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Add the weighted Q to the candidates' log-probabilities."""
        k = min(K, kit.model.vocabulary) if self.k is None else self.k
        rule = TokenRule(self.w, k, self.rule == "greedy", self.tau).fits(kit.model.vocabulary)
        bonus = self.bonus(kit) if self.w else None
        return Steering(logits=(guided(rule, bonus),))

    def bonus(self, kit: Kit) -> Bonus:
        """Give Q of every candidate: (step, candidates [rows, k]) -> [rows, k]."""
        rho = named(kit, self.rollout, NAME)
        beside = Companion(rho.net.base_model, rho.encode, counted(kit, rho, NAME))
        budget = kit.sampling.max_new_tokens
        roll = Rollouts(beside, rho.net.get_output_embeddings(), kit.model, self.tokens, budget)
        reward = kit.reward.of_candidates(kit.model)
        implied = self.implied(kit, beside) if self.form == "indirect" else None

        def q(step: Step, candidates: Tensor) -> Tensor:
            if self.tokens and not step.index:
                fit(step, rho.encode, rho.context, rho.name)
            said = roll(step, candidates)
            r = reward(step, said).double()
            if implied is None:
                return r
            excess = r - self.beta * implied(step, said)
            return (self.correction * excess).softmax(-1) * r.shape[-1] * r

        return q

    def implied(self, kit: Kit, beside: Companion) -> Callable[[Step, Tensor], Tensor]:
        """Give log rho - log p of continuations: (step, [rows, k, m]) -> [rows, k]."""
        rho, p = (named(kit, name, NAME) for name in (self.rollout, "policy"))
        bare = Companion(p.net.base_model, p.encode, counted(kit, p, NAME))
        pair = ((beside, rho), (bare, p))

        def ratio(step: Step, said: Tensor) -> Tensor:
            mine, theirs = (
                spoken(reader, model.net.get_output_embeddings(), step, said)
                for reader, model in pair
            )
            return mine - theirs

        return ratio


def spoken(reader: Companion, head: Callable[[Tensor], Tensor], step: Step, said: Tensor) -> Tensor:
    """Give log-probabilities of continuations [rows, k, m], -1 behind a shorter one: [rows, k]."""
    found = reader.along(step, said)
    state = reader.state(step)[:, None].expand_as(found[:, :, 0])
    total = torch.zeros(said.shape[:2], dtype=torch.float64, device=said.device)
    for i, token in enumerate(said.unbind(-1)):  # one at a time: logits are large
        log_p = head(state).float().log_softmax(-1)
        log_p = log_p.gather(-1, token.clamp(min=0)[..., None]).squeeze(-1)
        total += torch.where(token >= 0, log_p, 0.0)
        state = found[:, :, i]
    return total
