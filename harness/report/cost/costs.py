"""What an answer cost, in tokens and seconds, and what was spent before the first one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from harness.conduct import store
from harness.ledger import Ledger
from harness.records import Json
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


# ------------------------------------------------------------- what is spent before an answer


@dataclass(frozen=True)
class Prepared:
    """What was spent once, before the first answer: one fit of every part, and the tuning.

    fit, tuning  token positions by model, calls, seconds; empty where there was none.
    disk         bytes of the fits' folders.
    labels       preference pairs the fits were given; NaN where a fit did not record it.
    trials       evaluations that the fields were chosen by.
    """

    fit: Ledger = field(default_factory=Ledger)
    tuning: Ledger = field(default_factory=Ledger)
    disk: float = 0.0
    labels: float = 0.0
    trials: int = 0

    @property
    def tokens(self) -> float:
        """Give tokens through all models."""
        return float(sum(self.fit.tokens.values()) + sum(self.tuning.tokens.values()))

    @property
    def seconds(self) -> float:
        """Give wall-clock seconds."""
        return sum(self.fit.seconds.values()) + sum(self.tuning.seconds.values())

    @property
    def forwards(self) -> int:
        """Give batched calls of all models."""
        return sum(self.fit.forwards.values()) + sum(self.tuning.forwards.values())


def prepared(results: Path, terms: str, rows: Sequence[Row]) -> Prepared:
    """Read what one method's rows (one a benchmark) spent before they answered.

    Where there are several fits (seeds), the mean over them: a user needs one.
    terms  ``<protocol>-<hash>``.
    """
    fits = sorted({run.fit for row in rows for run in row.runs if run.fit})
    spent, disk, labels = Ledger(), 0.0, 0.0
    for fit in fits:
        seen = [0.0]  # the parts of a stack learn from the same pairs
        for folder in (f for name in fit for f in sorted(results.glob(f"fits/{terms}/*/{name}"))):
            disk += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            for line in store.read_lines(folder / "ledger.jsonl"):
                spent += Ledger.from_json(line)
                seen.append(float(line.get("labels", math.nan)))
        labels += float(np.max(seen))
    count = max(1, len(fits))
    tuned = [t for row in rows if (t := _tuning(results, terms, row)) is not None]
    whole = tuned[-1] if tuned else {}
    return Prepared(
        _share(spent, count),
        Ledger.from_json(whole["ledger"]) if whole else Ledger(),
        disk / count,
        labels / count,
        int(whole.get("evaluations", 0)),
    )


def _tuning(results: Path, terms: str, row: Row) -> dict[str, Json] | None:
    """Find the tuning that chose a row's fields; None where none did, or it is not here."""
    told = row.spec.get("tuning") or {}
    if not told.get("trials"):
        return None
    stack = "+".join(str(part.get("name")) for part in row.spec.get("stack") or ())
    files = sorted(results.glob(f"tuned/{terms}/{stack}/*/tuned.json"), key=_written)
    same = ("trials", "objective")
    for file in reversed(files):
        found: dict[str, Json] = store.read_json(file)
        if "ledger" in found and all(found.get(name) == told.get(name) for name in same):
            return found
    return None


def _written(file: Path) -> tuple[float, str]:
    return file.stat().st_mtime, str(file)


def _share(ledger: Ledger, count: int) -> Ledger:
    return Ledger(
        {role: round(n / count) for role, n in ledger.tokens.items()},
        {role: round(n / count) for role, n in ledger.forwards.items()},
        {phase: s / count for phase, s in ledger.seconds.items()},
        ledger.peak,
        {role: paid / count for role, paid in ledger.dollars.items()},
    )


Cheaper = Literal["always", "never", "from", "up to", "equal", "unknown"]


def break_even(
    once: float, each: float, other_once: float, other_each: float
) -> tuple[Cheaper, float]:
    """Say for how many queries one method costs less than another, and where that turns.

    once, each  what it costs before the first query, and per query; in one unit.
    "from" n: it is cheaper from n queries on; "up to" n: as long as there are fewer.
    """
    more, saved = once - other_once, other_each - each
    if math.isnan(more) or math.isnan(saved):
        return "unknown", math.nan
    if more == 0 and saved == 0:
        return "equal", math.nan
    if more <= 0 and saved >= 0:
        return "always", math.nan
    if more >= 0 and saved <= 0:
        return "never", math.nan
    return ("from" if saved > 0 else "up to"), more / saved


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Say of each (cost, quality) whether no other is as good for less, or better for as much.

    A point with NaN is on no front.
    """
    return [
        not (math.isnan(x) or math.isnan(y))
        and not any(u <= x and v >= y and (u < x or v > y) for u, v in points)
        for x, y in points
    ]


def at_cost(points: Sequence[tuple[float, float]], cost: float) -> float:
    """Read a curve of (cost, quality) at another cost, linear in the logarithm of the cost.

    NaN outside of what was measured: nothing is extrapolated.
    """
    known = sorted({x: y for x, y in points if x > 0 and y == y}.items())
    if len(known) < 2 or not cost > 0:
        return math.nan
    xs, ys = zip(*known, strict=True)
    return float(np.interp(math.log(cost), np.log(xs), ys, left=math.nan, right=math.nan))
