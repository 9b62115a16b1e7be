"""A/A control: the base model under other luck.

    y' ~ p(. | x),  independent of the unsteered row's y

The difference to ``unsteered`` is pure noise: an interval that excludes zero
here (more often than one time in twenty) says that the statistics are off, and
its width says how small a difference the table can see.  Under greedy sampling
both rows are the same text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.api import Fitted, Kit, Method, Steering


@dataclass(frozen=True)
class AnotherSeed(Method):
    """Draws from another stream of luck, named ``stream``."""

    control: ClassVar[bool] = True

    stream: str = "another"

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Change the noise and nothing else."""
        return Steering(noise=self.stream)
