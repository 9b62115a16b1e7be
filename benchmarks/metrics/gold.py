"""The planted truth about an answer, where a world knows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.api import Answered, Score, Scorer


class Metric(Scorer):
    """A world's gold reward, with its sub-scores as parts."""

    about: ClassVar[str] = "a world's planted truth about the answer, trait by trait"

    def skip(self) -> str | None:
        """Say that only worlds have a planted truth."""
        return None if self.instruments.gold is not None else "no world, so no planted truth"

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Read each answer with the world's rubric."""
        assert self.instruments.gold is not None
        scores = []
        for item in answered:
            parts = dict(self.instruments.gold(item.chat, item.response.text))
            value = parts.pop("gold")
            if math.isfinite(value):
                scores.append(Score(*item.key, value, parts=parts))
            else:
                scores.append(Score(*item.key, None, "failed", text=f"the rubric gave {value}"))
        return scores
