"""Ratios against a stated reference in the same run: medians of interleaved repetitions.

A time alone says more about the machine than about the code; so nothing here is
a timed test.  ``make perf`` prints what it found beside what is aimed at.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Seconds of two ways to do one thing, run in turn."""

    name: str
    ours: list[float]
    reference: list[float]
    aim: float
    note: str = ""

    @property
    def ratio(self) -> float:
        """Reference time over ours, pair by pair: above 1 means that ours is faster."""
        return statistics.median(r / o for o, r in zip(self.ours, self.reference, strict=True))

    def line(self) -> str:
        """Say what was measured, in one line."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.reference)
        verdict = "ok" if self.ratio >= self.aim else "BELOW AIM"
        return (
            f"{self.name:<58} {ours * 1e3:9.1f} ms {theirs * 1e3:9.1f} ms   "
            f"x{self.ratio:5.2f}  (aim >= {self.aim:g})  {verdict}  {self.note}"
        )


def compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    aim: float,
    *,
    runs: int = 5,
    note: str = "",
) -> Comparison:
    """Run both once to warm up, then in turn ``runs`` times."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        order = (0, 1) if run % 2 else (1, 0)
        for which in order:
            start = time.perf_counter()
            (ours, reference)[which]()
            if run:
                times[which].append(time.perf_counter() - start)
    return Comparison(name, *times, aim, note)
