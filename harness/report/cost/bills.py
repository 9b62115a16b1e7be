"""Every method's bill over all benchmarks, and what it gains for its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.report.comparison import Comparison, Result
from harness.report.cost.costs import (
    DECODING,
    Cheaper,
    Cost,
    Prepared,
    at_cost,
    break_even,
    merged,
    on_front,
    prepared,
    tokens_ratio,
)
from harness.report.frames import REFERENCE, Row
from harness.report.terms import Terms

BASELINE = "best_of_n"  # whose rows, and unsteered, are the curve that others are held against
BOUNDS = ("ceiling", "control")  # marks of rows that nobody would choose
Unit = Literal["tokens", "seconds"]


@dataclass(frozen=True)
class Bill:
    """One method over all benchmarks that it and the reference ran.

    answer    the cost of one answer; floor: of the reference's, on the same benchmarks.
    forwards  batched calls an answer; peak: the largest memory while it answered, bytes.
    scoring   tokens per answer that were spent on measuring it, by model.
    dollars   per answer, paid for measuring it; NaN where no price is known.
    """

    label: str
    rows: tuple[Row, ...]
    answer: Cost
    floor: Cost
    prepared: Prepared
    forwards: float
    peak: int
    scoring: dict[str, float]
    dollars: float

    @property
    def chosen(self) -> bool:
        """Say whether anybody would choose the row: it is neither a bound nor a check."""
        return not any(mark in BOUNDS for row in self.rows for mark in row.marks)

    def once(self, unit: Unit) -> float:
        """Give what was spent before the first answer."""
        return self.prepared.tokens if unit == "tokens" else self.prepared.seconds

    def each(self, unit: Unit) -> float:
        """Give what an answer costs."""
        return self.answer.total if unit == "tokens" else self.answer.seconds

    def unit(self, unit: Unit) -> float:
        """Give what an answer of the reference costs, on the same benchmarks."""
        return self.floor.total if unit == "tokens" else self.floor.seconds

    def amortised(self, queries: int) -> float:
        """Give tokens an answer with fitting and tuning spread over so many queries."""
        return self.answer.total + self.prepared.tokens / queries


@dataclass(frozen=True)
class Point:
    """One row on one benchmark: tokens relative to the reference, and how much it gains.

    equal  what best-of-N gains for as many tokens; NaN where that was not measured.
    front  whether no row that anybody would choose is better for as few tokens.
    """

    label: str
    tokens: float
    gain: float
    equal: float
    front: bool
    chosen: bool


def bills(results: Path, terms: Terms, comparisons: Sequence[Comparison]) -> list[Bill]:
    """Give a bill for every method that the reference can be held against; the reference first."""
    labels = {r.row.label for c in comparisons for r in c.results if r.row.runs and c.reference}
    found = []
    for label in sorted(labels, key=lambda label: (label != REFERENCE, label)):
        both = [
            (result, c.reference)
            for c in comparisons
            for result in c.results
            if result.row.label == label and result.row.runs and c.reference
        ]
        rows = tuple(result.row for result, _ in both)
        found.append(
            Bill(
                label,
                rows,
                merged([result.cost for result, _ in both]),
                merged([reference.cost for _, reference in both]),
                prepared(results, f"{terms.protocol}-{terms.hash}", rows),
                *_measured(rows),
            )
        )
    return found


def points_of(comparison: Comparison) -> list[Point]:
    """Place every row of a benchmark by tokens and gain."""
    floor = comparison.reference
    if floor is None:
        return []
    at = [(r, tokens_ratio(r.cost, floor.cost), _gain(r)) for r in comparison.results if r.row.runs]
    chosen = [not any(mark in BOUNDS for mark in r.row.marks) for r, *_ in at]
    line_ = [(x, y) for r, x, y in at if r is floor or _stack(r.row) == [BASELINE]]
    fair = [(x, y if use else math.nan) for (_, x, y), use in zip(at, chosen, strict=True)]
    return [
        Point(r.row.label, x, y, at_cost(line_, x), front, use)
        for (r, x, y), front, use in zip(at, on_front(fair), chosen, strict=True)
    ]


def cheaper(a: Bill, b: Bill, unit: Unit) -> tuple[Cheaper, float]:
    """Say for how many queries one method is cheaper than another; see ``break_even``.

    What a query costs is taken relative to the reference, on the benchmarks that each ran.
    """
    apart = unit == "seconds" and a.answer.devices != b.answer.devices
    if apart or not b.unit(unit):
        return "unknown", math.nan
    (once, each), (other_once, other_each) = ((x.once(unit), x.each(unit)) for x in (a, b))
    return break_even(once, each, other_once, other_each * a.unit(unit) / b.unit(unit))


def _gain(result: Result) -> float:
    if result.why == "reference":
        return 0.0
    return result.difference.value if result.difference and not result.why else math.nan


def _stack(row: Row) -> list[str]:
    return [str(part.get("name")) for part in row.spec.get("stack") or ()]


def _measured(rows: Sequence[Row]) -> tuple[float, int, dict[str, float], float]:
    """Give calls an answer, peak memory, tokens spent on measuring an answer, and its dollars."""
    answers = max(1, sum(row.responses for row in rows))
    forwards, peak, paid = 0, 0, 0.0
    scoring: dict[str, float] = {}
    priced = False
    for ledgers in (run.ledgers for row in rows for run in row.runs):
        for phase, ledger in ledgers.items():
            if phase in DECODING:
                forwards += sum(ledger.forwards.values())
                peak = max(peak, ledger.peak)
                continue
            for role, n in ledger.tokens.items():
                scoring[role] = scoring.get(role, 0.0) + n / answers
            priced = priced or bool(ledger.dollars)
            paid += sum(ledger.dollars.values())
    return forwards / answers, peak, scoring, paid / answers if priced else math.nan
