"""What an answer cost, in tokens through every model and in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from harness.report.frames import Row

DECODING = frozenset({"decode", "generate"})  # what an answer costs; fitting and scoring do not


@dataclass(frozen=True)
class Cost:
    """Cost of one answer, averaged over all of a row's answers.

    tokens   model role -> token positions computed.
    seconds  wall clock; NaN where it was not measured.
    devices  where it ran: seconds on different devices are not compared.
    """

    tokens: dict[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    devices: tuple[str, ...] = ()
    answers: int = 0

    @property
    def total(self) -> float:
        """Give tokens through all models; NaN where nothing was counted."""
        return sum(self.tokens.values()) if self.tokens else math.nan


def cost_of(row: Row) -> Cost:
    """Read a row's cost off its ledgers."""
    if not row.responses:
        return Cost()
    ledger = row.cost(DECODING)
    spent = sum(s for phase, s in ledger.seconds.items() if phase in DECODING)
    return Cost(
        {role: n / row.responses for role, n in sorted(ledger.tokens.items())},
        spent / row.responses if spent else math.nan,
        tuple(sorted({run.device for run in row.runs})),
        row.responses,
    )


def merged(costs: list[Cost]) -> Cost:
    """Average over benchmarks, each answer counting once."""
    costs = [cost for cost in costs if cost.answers]
    answers = sum(cost.answers for cost in costs)
    roles = sorted({role for cost in costs for role in cost.tokens})
    return Cost(
        {r: sum(c.tokens.get(r, 0.0) * c.answers for c in costs) / answers for r in roles},
        sum(c.seconds * c.answers for c in costs) / answers if answers else math.nan,
        tuple(sorted({device for cost in costs for device in cost.devices})),
        answers,
    )


def tokens_ratio(cost: Cost, reference: Cost) -> float:
    """Give tokens per answer, every model counted, over the reference's."""
    return cost.total / reference.total if reference.total else math.nan


def seconds_ratio(cost: Cost, reference: Cost) -> float:
    """Give seconds per answer over the reference's; NaN across different devices."""
    if cost.devices != reference.devices or not reference.seconds:
        return math.nan
    return cost.seconds / reference.seconds
