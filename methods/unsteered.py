"""Unsteered: the base model as it is; the floor of every table.

y ~ p(. | x)
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.api import Fitted, Kit, Method, Steering


@dataclass(frozen=True)
class Unsteered(Method):
    """Touches nothing."""

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Return the empty steering."""
        return Steering()
