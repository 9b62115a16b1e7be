"""One cell of a table: a stack of methods on a benchmark, under one sampling and one fit seed."""

from __future__ import annotations

from dataclasses import dataclass

from harness.conduct.questions import Questions
from harness.conduct.setting import Setting
from harness.contracts.method import Stack
from harness.engine.sampling import Sampling


@dataclass(frozen=True)
class Cell:
    """What one run is about.

    limit  only the first so many prompts were taken; None for all.
    """

    setting: Setting
    questions: Questions
    stack: Stack
    seed: int = 0
    fit_seed: int = 0
    limit: int | None = None

    @property
    def label(self) -> str:
        """Name the row."""
        return self.stack.label

    @property
    def fitted(self) -> bool:
        """True where some part learns something."""
        return any(part.method.fits() for part in self.stack.parts)

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn where no prompt has a rule of its own."""
        own = self.questions.benchmark.sampling
        return Sampling(**self.setting.protocol.draw(self.questions.name, own))

    @property
    def search_sampling(self) -> Sampling | None:
        """How a search draws its candidates, where the protocol has a word on it."""
        given = self.setting.protocol.sections.sampling.search.given()
        own = self.questions.benchmark.sampling
        drawn = self.setting.protocol.draw(self.questions.name, own)
        return Sampling(**{**drawn, **given}) if given else None
