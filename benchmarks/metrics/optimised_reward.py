"""Reward of the answer, by the reward model that methods were granted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from benchmarks.metrics.reward import scored
from harness.api import Answered, Score, Scorer


class Metric(Scorer):
    """How far a method raised what it could see; no evidence that its answers are better."""

    about: ClassVar[str] = "score by the granted reward model, which methods may optimise"

    def skip(self) -> str | None:
        """Say that no reward model of its own is granted."""
        if self.instruments.optimised is None:
            return "no reward model is granted besides the one of the evaluation (column reward)"
        return None

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Score each answer after what the user asked."""
        assert self.instruments.optimised is not None
        values = self.instruments.optimised.score(
            [item.chat for item in answered], [item.response.text for item in answered]
        )
        return scored(answered, values)
