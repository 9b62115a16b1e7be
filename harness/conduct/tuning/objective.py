"""What tuning makes as large as possible: the granted reward, or that reward within a KL cap."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import PlumblineError

_CAPPED = re.compile(r"reward@kl<=([0-9]*\.?[0-9]+)")


@dataclass(frozen=True)
class Objective:
    """The mean granted reward on development prompts.

    cap  nats: settings further than this from the unsteered model do not count; None for no cap.
    """

    cap: float | None = None

    @property
    def name(self) -> str:
        """Write it as ``OBJECTIVE=`` takes it."""
        return "reward" if self.cap is None else f"reward@kl<={self.cap:g}"

    def admits(self, kl: float | None) -> bool:
        """Say whether a setting so far from the unsteered model counts."""
        return self.cap is None or (kl is not None and kl <= self.cap)


def parse(text: str) -> Objective:
    """Read ``reward`` or ``reward@kl<=NATS``; raises PlumblineError for anything else."""
    plain = text.replace(" ", "").lower()
    if plain == "reward":
        return Objective()
    found = _CAPPED.fullmatch(plain)
    if found is None or not float(found[1]) > 0:
        raise PlumblineError(
            f"OBJECTIVE is {text!r}; it must be reward, or reward within a number of nats above "
            "0, such as reward@kl<=4"
        )
    return Objective(float(found[1]))
