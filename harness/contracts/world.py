"""A world: a setting whose truth is planted.

A protocol may name a world where it would otherwise name a model, a reward
model and data sets.  A world builds ordinary Hugging Face folders and ordinary
data files, so everything downstream reads it with the code that reads real ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.chat import Chat
from harness.records import Json, Prompt, Score

if TYPE_CHECKING:
    from harness.engine.model import Model
    from harness.engine.steering import Steering

Report = Callable[[float, str], None]


class World(ABC):
    """A model, a reward model, a gold reward and items, made from a seed.

    ``build`` fills a folder with

    policy/ aligned/ reward/ judge/   Hugging Face folders (a world may lack some)
    items/                            data files in the benchmarks' published schemas
    facts.json                        what was measured while building
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def recipe(self) -> dict[str, Json]:
        """Everything the build depends on; its hash names the cache folder."""

    @abstractmethod
    def build(self, folder: Path, report: Report) -> None:
        """Write the world; ``report(fraction, what)`` moves the progress bar."""

    @abstractmethod
    def gold(self, chat: Chat, response: str) -> dict[str, float]:
        """The planted truth about an answer: ``"gold"`` and named sub-scores.

        Pure, never raises, and reads nothing but the words.
        """

    def exact(
        self, model: Model, prompts: Sequence[Prompt], steering: Steering
    ) -> Mapping[str, Sequence[Score]]:
        """Give what can be known of a steered model without sampling: columns of scores.

        For a world small enough to list every answer; others know nothing of the kind.
        """
        return {}

    def listed(
        self, model: Model, prompts: Sequence[Prompt], budgets: Sequence[int]
    ) -> Iterable[Mapping[str, float]] | None:
        """Give every answer to each prompt's first turn, with its log-probability at temperature 1.

        budgets  tokens an answer may have, for each prompt.

        None where there are too many to list, which is the rule.
        """
        return None
