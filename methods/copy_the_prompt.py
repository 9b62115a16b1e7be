"""Control: say the prompt back.

    y = x

Sentence-embedding coherence is at its maximum, and nothing was answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.api import Fitted, Kit, Method, Steering
from methods._forced import says


@dataclass(frozen=True)
class CopyThePrompt(Method):
    """Answers every prompt with its last user turn."""

    control: ClassVar[bool] = True

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Force the user's own words."""
        return says(kit, lambda chat: chat.last_user)
