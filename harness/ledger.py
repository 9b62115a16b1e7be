"""What a run cost: tokens and forward calls through each model, seconds, peak memory.

Counted where it is spent (inside ``Model.forward`` and ``RewardModel.score``),
never by a method.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.records import Json


@dataclass
class Ledger:
    """A running total; cheap to make, added up with ``+=``.

    tokens    model role ("policy", "reward", "value", ...) -> token positions
              computed, padding and finished rows left out.
    forwards  model role -> batched calls.
    seconds   phase ("fit", "decode", "score", ...) -> wall-clock seconds.
    peak      largest memory seen, bytes.
    dollars   model role -> what an endpoint charged, where its prices are known.
    """

    tokens: dict[str, int] = field(default_factory=dict)
    forwards: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak: int = 0
    dollars: dict[str, float] = field(default_factory=dict)

    def count(self, role: str, tokens: int, forwards: int = 1) -> None:
        """Add one batched call."""
        self.tokens[role] = self.tokens.get(role, 0) + tokens
        self.forwards[role] = self.forwards.get(role, 0) + forwards

    def pay(self, role: str, dollars: float) -> None:
        """Add what a call cost."""
        self.dollars[role] = self.dollars.get(role, 0.0) + dollars

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds spent inside the block, and look at the memory after it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed
            self.peak = max(self.peak, peak_memory())

    def __iadd__(self, other: Ledger) -> Ledger:
        for mine, theirs in (
            (self.tokens, other.tokens),
            (self.forwards, other.forwards),
        ):
            for role, amount in theirs.items():
                mine[role] = mine.get(role, 0) + amount
        for phase, elapsed in other.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed
        for role, paid in other.dollars.items():
            self.pay(role, paid)
        self.peak = max(self.peak, other.peak)
        return self

    def to_json(self) -> dict[str, Json]:
        """Give the line that is stored."""
        return {
            "tokens": self.tokens,
            "forwards": self.forwards,
            "seconds": self.seconds,
            "peak": self.peak,
        } | ({"dollars": self.dollars} if self.dollars else {})

    @classmethod
    def from_json(cls, line: Mapping[str, Json]) -> Ledger:
        """Read a stored line back."""
        return cls(
            dict(line["tokens"]),
            dict(line["forwards"]),
            dict(line["seconds"]),
            int(line["peak"]),
            dict(line.get("dollars", {})),
        )


class Metered:
    """Whatever counts what it spends on a ledger of its own.

    ledger  where it counts now.
    """

    ledger: Ledger

    @contextmanager
    def metered(self, ledger: Ledger) -> Iterator[Ledger]:
        """Count what is spent inside the block on ``ledger`` instead."""
        before, self.ledger = self.ledger, ledger
        try:
            yield ledger
        finally:
            self.ledger = before


def peak_memory() -> int:
    """Give the largest memory this process has held, in bytes (on the GPU, where one is used)."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
