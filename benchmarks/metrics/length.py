"""Length of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.api import Answered, Score, Scorer


class Metric(Scorer):
    """Tokens as drawn, the end token included; characters of the text as a part."""

    about: ClassVar[str] = "tokens of the answer, the end token included"
    higher_is_better: ClassVar[bool | None] = None

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Count each answer's tokens and characters."""
        return [
            Score(
                *item.key,
                float(len(item.response.tokens)),
                parts={"characters": float(len(item.response.text))},
            )
            for item in answered
        ]
