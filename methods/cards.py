"""CARDS: an answer grows by segments, each drawn again until a reward model likes it well enough.

    a segment is over before a token whose entropy H(p(.|s)) >= threshold, from ``shortest``
    tokens on, and at ``longest`` tokens
    it is accepted with probability min(1, exp((r(x, y^t) - tau(t)) / beta)),
        tau(t) = min(r0 + t (r* - r0) / T, r*),     r0 = (1 - alpha) r(x) + alpha r*
    where all of ``proposals`` are rejected, the best of them is kept

Li et al. 2025, "Cascade Reward Sampling for Efficient Decoding-Time Alignment", arXiv 2406.16306
(COLM 2025).  A text is cut where the model is unsure how to go on, which is where meanings
end; a reward model errs less on such a prefix than after any token.

Rows of a batch reject on their own and keep their caches; what is rejected is overwritten
(harness/engine/segments.py).  The published code decodes one prompt at a time without a cache
and never stops at the end token.

Ours: r is standardised by the rewards of the policy's own answers to training prompts, so that
r* and beta are in standard deviations; ``scale=raw`` takes them as the reward model counts.
Segments are drawn as the protocol samples, not by top-k 40.  methods/cards/cards.md has the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.api import (
    Chat,
    Fitted,
    Kit,
    Lab,
    Method,
    Need,
    Rows,
    Search,
    Segments,
    Steering,
    at_least,
    finite,
)
from methods._choosing import prompts_of
from methods._rollouts import rollouts
from methods._value_training import Scale

BARE = "cards: reward of no answer"


@dataclass(frozen=True)
class Cards(Method):
    """Accepts segments by their reward, or draws them again.

    target     r*, the reward an answer is to reach.
    alpha      how near to r* the threshold begins.
    beta       temperature of acceptance; 0 is a hard threshold.
    threshold  entropy of the next token, in nats, at which a segment ends.
    shortest, longest  tokens of a segment.
    proposals  of a segment; 1 accepts all.
    scale      "own": rewards in standard deviations from the mean of the policy's own answers;
               "raw": as the reward model gives them.
    prompts    training prompts answered to measure that scale.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs", "reward"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "target": (0.0, 0.5, 1.0, 1.5, 2.0),
        "beta": (0.2, 0.35, 0.7, 1.4),
        "threshold": (1.0, 2.0, 3.0, 4.0),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"proposals": 1}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "cards_hh_llama": {"scale": "raw", "target": 8.5},
    }

    target: float = 1.0
    alpha: float = 0.5
    beta: float = 0.7
    threshold: float = 3.0
    shortest: int = 4
    longest: int = 64
    proposals: int = 21
    scale: Literal["own", "raw"] = "own"
    prompts: int = 128

    def __post_init__(self) -> None:
        finite(self, "target", "alpha")
        at_least(self, beta=0, shortest=1, longest=self.shortest, proposals=1, prompts=2)

    def fits(self) -> bool:
        """Say whether rewards are measured first."""
        return self.proposals > 1 and self.scale == "own"

    def fit(self, lab: Lab) -> Fitted:
        """Measure the rewards of the policy's own answers."""
        if not self.fits():
            return Fitted()
        told = rollouts(lab, prompts_of(lab.pairs, self.prompts, "cards"))
        scale = Scale.of(told.rewards)
        return Fitted(
            facts={
                "answers": len(told),
                "empty_answers": told.empty,
                "reward_mean": scale.mean,
                "reward_std": scale.std,
            }
        )

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Search segment by segment; one proposal is as good as none to choose from."""
        if self.proposals == 1:
            return Steering()
        scale = Scale()
        if self.fits():
            facts = fitted.facts
            scale = Scale(float(facts["reward_mean"]), float(facts["reward_std"]))
        accept = partial(self.accepts, scale)
        search = Search(
            1, kit.reward.of_rows, reads=True, segments=Segments(self.ends, accept, self.proposals)
        )

        def bare(chats: Sequence[Chat]) -> Mapping[str, Tensor]:
            rewards = kit.reward.score(chats, [""] * len(chats))
            return {BARE: torch.tensor(rewards, dtype=torch.float64)}

        return Steering(prepare=(bare,), search=search)

    def ends(self, log_p: Tensor, tokens: Tensor) -> Tensor:
        """Say where the segment is over: log_p [rows, vocabulary], tokens [rows] -> [rows]."""
        return (tokens >= self.shortest) & (
            (entropy(log_p) >= self.threshold) | (tokens >= self.longest)
        )

    def accepts(self, scale: Scale, scores: Tensor, rows: Rows) -> Tensor:
        """Accept by chance: scores [rows] -> [rows]."""
        tau = self.bar(scale(rows.of_prompt(BARE)), rows)
        if not self.beta:
            return scale(scores) >= tau
        chance = ((scale(scores) - tau) / self.beta).exp()
        return rows.uniform("cards") < chance

    def bar(self, bare: Tensor, rows: Rows) -> Tensor:
        """Give tau(t) of every row: [rows]; bare [rows] is r(x)."""
        start = (1 - self.alpha) * bare + self.alpha * self.target
        t = torch.tensor(rows.lengths(), dtype=torch.float64, device=bare.device)
        return (start + t * (self.target - start) / rows.ids.shape[1]).clamp(max=self.target)


def entropy(log_p: Tensor) -> Tensor:
    """Give the entropy in nats: log_p [rows, vocabulary] -> [rows]."""
    h: Tensor = torch.special.entr(log_p.exp()).sum(-1)
    return h
