"""The token-wise loop's rule: candidates, a bonus for each, and how the next token follows.

    l = log softmax(logits),  C = the k likeliest tokens
    score(z) = l(z) + strength * bonus(s, z)   for z in C,   -inf outside
    z = argmax score,  or drawn from softmax(score / temperature)

Every token-wise guided method is this rule with a bonus of its own: a reward model on the
partial text (ARGS, arXiv 2402.01694), a learned value of it (controlled decoding, arXiv
2310.17022), and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.engine.rows import Step
from harness.errors import PlumblineError

Bonus = Callable[[Step, Tensor], Tensor]  # step, candidates [rows, k] -> [rows, k]


@dataclass(frozen=True)
class TokenRule:
    """How candidates and their bonuses become the next token's logits.

    strength     what a bonus is multiplied by.
    k            candidates a step; 0 is the whole vocabulary.
    greedy       keep the best candidate only.
    temperature  scores are divided by it (on top of the protocol's own temperature).
    """

    strength: float
    k: int = 0
    greedy: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 0:
            raise PlumblineError(f"k is {self.k}; it must be 0 (the whole vocabulary) or more")
        if not self.temperature > 0:
            raise PlumblineError(f"the temperature is {self.temperature}; it must be above 0")

    def fits(self, vocabulary: int) -> TokenRule:
        """Give the rule itself; raises PlumblineError where there are fewer tokens than k."""
        if self.k > vocabulary:
            raise PlumblineError(
                f"k is {self.k}, and the model's vocabulary has {vocabulary} tokens; "
                "give fewer candidates, or 0 for all tokens"
            )
        return self

    def candidates(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Give the candidates' log-probabilities and ids, [rows, k] each, likeliest first."""
        found = logits.log_softmax(-1).topk(self.k or logits.shape[-1], dim=-1)
        return found.values, found.indices

    def combined(self, log_p: Tensor, candidates: Tensor, bonus: Tensor, vocabulary: int) -> Tensor:
        """Give the logits to draw from, [rows, vocabulary]: -inf for all but the candidates.

        A bonus of -inf rules a candidate out.  Ties go to the likelier candidate.
        """
        score = (log_p + self.strength * bonus.to(log_p)) / self.temperature
        if self.greedy:
            best = score.argmax(-1, keepdim=True)
            score = torch.full_like(score, -torch.inf).scatter(-1, best, 0.0)
        outside = log_p.new_full((len(log_p), vocabulary), -torch.inf)
        return outside.scatter(-1, candidates, score)


def guided(rule: TokenRule, bonus: Bonus | None = None) -> Callable[[Tensor, Step], Tensor]:
    """Make a logits edit of a rule and a bonus; without one, or at strength 0, only truncate."""

    def edit(logits: Tensor, step: Step) -> Tensor:
        log_p, candidates = rule.candidates(logits)
        if bonus is None or rule.strength == 0:
            given = torch.zeros_like(log_p)
        else:
            given = bonus(step, candidates)
        return rule.combined(log_p, candidates, given, logits.shape[-1])

    return edit


@dataclass(frozen=True)
class Lookahead:
    """A rule whose bonus reads the model's own state after each candidate.

    The loop pushes the k candidates through the model in one packed pass; the pass that
    scores them already holds the logits that follow the chosen one, so nothing is read twice.

    value  states [rows, k, width] that the lm_head would read -> bonus [rows, k].
    """

    rule: TokenRule
    value: Callable[[Tensor], Tensor]
