"""Reward of the answer, by the evaluation reward model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.api import Answered, Score, Scorer


def scored(answered: Sequence[Answered], values: Sequence[float]) -> list[Score]:
    """Turn a model's numbers into scores; a number that is none is a failure, counted as such."""
    return [
        Score(*item.key, value)
        if math.isfinite(value)
        else Score(*item.key, None, "failed", text=f"the reward model gave {value}")
        for item, value in zip(answered, values, strict=True)
    ]


class Metric(Scorer):
    """Raw score of conversation and answer, in the reward model's own units and template."""

    about: ClassVar[str] = "score by the evaluation reward model, which no method was granted"

    def skip(self) -> str | None:
        """Say that there is no evaluation reward model, or that methods optimised this one."""
        reward, optimised = self.instruments.reward, self.instruments.optimised
        if reward is None:
            return "no evaluation reward model under [rewards]"
        if reward is optimised:
            return "methods were granted the evaluation reward model; see optimised_reward"
        return None

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Score each answer after what the user asked."""
        assert self.instruments.reward is not None
        values = self.instruments.reward.score(
            [item.chat for item in answered], [item.response.text for item in answered]
        )
        return scored(answered, values)
