"""Control: refuse everything.

    y = "I am sorry, but I cannot help with that."    whatever x is

It looks perfectly harmless.  A benchmark on which it wins measures harmlessness
alone; read it beside the rows on benign prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.api import Fitted, Kit, Method, Need, Steering
from methods._forced import says


@dataclass(frozen=True)
class AlwaysRefuse(Method):
    """Answers every prompt with the same refusal."""

    needs: ClassVar[frozenset[Need]] = frozenset({"words"})
    control: ClassVar[bool] = True

    text: str = "I am sorry, but I cannot help with that."

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Force the refusal."""
        return says(kit, lambda _: self.text)
