"""Reward-guided decoding (ARGS): every next token weighs a reward model's view of the text so far.

    score(z) = log p(z|s) + w r([s, z])        for z among the k likeliest tokens

    greedy   z = argmax score(z)               ARGS-greedy
    sample   z ~ softmax(score(z) / tau)       ARGS-stochastic

Khanov et al. 2024, "ARGS: Alignment as Reward-Guided Search", arXiv 2402.01694 (ICLR 2024).
RE-CONTROL (arXiv 2406.05954) calls this baseline "CD"; it is not the controlled decoding of
arXiv 2310.17022, whose scorer is trained (methods/controlled_decoding.py).

r is the granted outcome reward model read on a partial answer, closed as its template
closes a whole one; a candidate that ends the answer is scored as the finished answer.
The reward model sees the user's words only.

Where the published code does otherwise: it never stops at the end token, decodes one prompt
at a time and copies the reward model's cache k times; here rows share a batch and candidates
a row.  It adds w r to the raw logit, which is the same choice and the same distribution.  It
needs one tokenizer for both models; here a reward model with another reads the text anew
from where it differs.  methods/cards/reward_guided.md has the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.api import (
    Fitted,
    Kit,
    Method,
    Need,
    Steering,
    TokenRule,
    above,
    at_least,
    guided,
)

K = 10  # candidates in the published experiments


@dataclass(frozen=True)
class RewardGuided(Method):
    """Weighs ``k`` candidate tokens by the granted reward of the text they lead to.

    w     weight of the reward; its unit is nats per unit of reward, so it is this reward
          model's own.
    k     candidates a step; 0 is the whole vocabulary, None is 10 or what there is.
    rule  how the next token follows from the scores.
    tau   divides the scores of a sampled token, on top of the protocol's temperature.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reward"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "w": (0.5, 1.0, 1.5, 2.0, 4.0),
        "k": (5, 10, 20, 40),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"w": 0.0, "k": 0}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "args": {"rule": "greedy"},
        "recontrol_cd": {"rule": "greedy"},
    }

    w: float = 1.0
    k: int | None = None
    rule: Literal["sample", "greedy"] = "sample"
    tau: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, k=0)
        above(self, tau=0)

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Add the weighted reward to the candidates' log-probabilities."""
        greedy = self.rule == "greedy"
        k = min(K, kit.model.vocabulary) if self.k is None else self.k
        rule = TokenRule(self.w, k, greedy, self.tau).fits(kit.model.vocabulary)
        return Steering(logits=(guided(rule, kit.reward.of_candidates(kit.model)),))
