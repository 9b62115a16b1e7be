"""The page of costs: what an answer takes, what was spent before it, and when that pays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from harness.conduct import store
from harness.report.columns import NONE, number, times
from harness.report.comparison import Comparison
from harness.report.cost.bills import Bill, Point, Unit, bills, cheaper, points_of
from harness.report.cost.costs import seconds_ratio, tokens_ratio
from harness.report.fields import Record
from harness.report.frames import REFERENCE
from harness.report.legend import provenance
from harness.report.markup import (
    Block,
    Grid,
    Line,
    Notes,
    Page,
    Picture,
    code,
    line,
    to_csv,
)
from harness.report.pages import write_page
from harness.report.terms import Terms

QUERIES = (1_000, 10_000, 100_000)


def write_cost(
    results: Path, terms: Terms, comparisons: Sequence[Comparison], out: Path
) -> list[Path]:
    """Write ``cost.md``, ``.csv``, ``.tex``, the figure, and every pair's break-even number."""
    from harness.report.cost.figure import draw

    found = bills(results, terms, comparisons)
    if not found:
        return []
    points = {c.cell.benchmark: points_of(c) for c in comparisons if c.reference}
    pictures = draw(comparisons, points, out / "cost")
    page = _page(terms, comparisons, found, points, pictures)
    written = write_page(out / "cost", page, [_record(bill, terms) for bill in found])
    even = out / "cost.break_even.csv"
    store.write_text(even, to_csv(_pairs(found)))
    return [*written, even, *pictures]


def amount(value: float) -> str:
    """Write a number of tokens, queries or bytes in few digits: 950, 12.3k, 4.56M."""
    if math.isnan(value):
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.1f}"


# ---------------------------------------------------------------------------- the page


def _page(
    terms: Terms,
    comparisons: Sequence[Comparison],
    found: Sequence[Bill],
    points: dict[str, list[Point]],
    pictures: Sequence[Path],
) -> Page:
    about = str(comparisons[0].spec.get("about") or f"Protocol {terms.protocol}")
    shown = [Picture("gain against tokens", p.name) for p in pictures if p.suffix == ".png"]
    blocks: list[Block] = [
        _answers(found),
        _before(found),
        _gains(comparisons, points),
        *shown,
        *_matrices(found),
        _legend(found),
        provenance(terms, comparisons),
    ]
    intro = line(
        "How to read it: what one answer takes, over all benchmarks that a row and unsteered ran; "
        "what was spent once, before the first answer; what best-of-N gains for the same tokens; "
        "and from how many queries on one method is cheaper than another. Tokens are positions "
        "computed, all models counted alike: a run records the policy's parameters and not those "
        "of the other models, so tokens are not turned into operations."
    )
    return Page(about, f"What it costs under {terms.protocol}", (intro,), tuple(blocks))


def _answers(found: Sequence[Bill]) -> Grid:
    roles = sorted({role for bill in found for role in bill.answer.tokens})
    measuring = sorted({role for bill in found for role in bill.scoring})
    header = (
        "method",
        "tokens",
        "× unsteered",
        *roles,
        "calls",
        "seconds",
        "× unsteered",
        "memory",
    )
    priced = any(not math.isnan(bill.dollars) for bill in found)
    header += tuple(f"measuring: {role}" for role in measuring) + ("dollars",) * priced
    rows = tuple(
        (
            line(bill.label),
            line(amount(bill.answer.total)),
            line(times(tokens_ratio(bill.answer, bill.floor))),
            *(line(_some(bill.answer.tokens.get(role, 0.0))) for role in roles),
            line(number(bill.forwards, 1)),
            line(number(bill.answer.seconds, 3)),
            line(times(seconds_ratio(bill.answer, bill.floor))),
            line(f"{bill.peak / 2**20:.0f} MiB" if bill.peak else NONE),
            *(line(_some(bill.scoring.get(role, 0.0))) for role in measuring),
            *(line(number(bill.dollars, 5)) for _ in range(priced)),
        )
        for bill in found
    )
    return Grid("What one answer takes", header, rows)


def _before(found: Sequence[Bill]) -> Grid:
    roles = sorted({role for bill in found for role in bill.prepared.fit.tokens})
    header = (
        "method", "labels", "fit: tokens", *(f"fit: {role}" for role in roles), "fit: calls",
        "fit: seconds", "on disk", "tuning: trials", "tuning: tokens", "tuning: seconds",
        *(f"tokens an answer, {amount(q)} queries" for q in QUERIES),
    )  # fmt: skip
    rows = []
    for bill in found:
        once = bill.prepared
        rows.append(
            (
                line(bill.label),
                line(amount(once.labels) if once.labels else NONE),
                line(_some(float(sum(once.fit.tokens.values())))),
                *(line(_some(float(once.fit.tokens.get(role, 0)))) for role in roles),
                line(_some(float(sum(once.fit.forwards.values())))),
                line(number(sum(once.fit.seconds.values()), 1) if once.fit.seconds else NONE),
                line(f"{once.disk / 1024:.0f} KiB" if once.disk else NONE),
                line(str(once.trials) if once.trials else NONE),
                line(_some(float(sum(once.tuning.tokens.values())))),
                line(number(sum(once.tuning.seconds.values()), 1) if once.tuning.seconds else NONE),
                *(line(amount(bill.amortised(q))) for q in QUERIES),
            )
        )
    return Grid("What was spent before the first answer", header, tuple(rows))


def _gains(comparisons: Sequence[Comparison], points: dict[str, list[Point]]) -> Grid:
    """Give each row's gain beside best-of-N's for the same tokens, benchmark by benchmark."""
    known = [c for c in comparisons if c.cell.benchmark in points]
    at = [{point.label: point for point in points[c.cell.benchmark]} for c in known]
    labels = sorted({label for found in at for label in found}, key=lambda n: (n != REFERENCE, n))
    titles = [str(c.spec.get("title") or c.cell.benchmark) for c in known]
    rows = tuple((line(n), *(_gain_cell(found.get(n)) for found in at)) for n in labels)
    return Grid("Gain on unsteered, and best-of-N's for as many tokens", ("method", *titles), rows)


def _gain_cell(point: Point | None) -> Line:
    if point is None or math.isnan(point.gain):
        return line(NONE)
    mine, theirs = number(point.gain, 2, signed=True), number(point.equal, 2, signed=True)
    return line(f"{mine} (best-of-N {theirs}){' ◆' if point.front else ''}")


def _matrices(found: Sequence[Bill]) -> list[Grid]:
    """Hold every method against every other, in tokens and in seconds."""
    rows = [bill for bill in found if bill.chosen]
    header = ("method", *(str(i) for i in range(1, len(rows) + 1)))
    return [
        Grid(
            f"Cheaper in {unit}, for how many queries? The row against the column",
            header,
            tuple(
                (
                    line(f"{i}. {a.label}"),
                    *(line(NONE if a is b else _turn(a, b, unit)) for b in rows),
                )
                for i, a in enumerate(rows, 1)
            ),
        )
        for unit in get_args(Unit)
        if len(rows) > 1
    ]


def _turn(a: Bill, b: Bill, unit: Unit) -> str:
    kind, n = cheaper(a, b, unit)
    signs = {"from": "≥ ", "up to": "≤ ", "unknown": NONE, "equal": "equal"}
    return signs.get(kind, kind) + (amount(n) if n == n else "")


def _some(value: float) -> str:
    return amount(value) if value else NONE


def _legend(found: Sequence[Bill]) -> Notes:
    lines = [
        line(code("calls"), ": batched calls of all models, so fewer where more rows are decoded "
             "together; ", code("memory"), ": the largest of the process while it answered"),
        line(code("measuring"), ": tokens spent on scoring an answer, which no method pays for"),
        line(code("labels"), ": preference pairs the fit was given; a fit's tokens through reward "
             "are what it asked of the granted reward"),
        line("several fits: the mean of one; tuning: all trials, their fits included, where its "
             "folder is beside these results"),
        line(f"best-of-N: read off its measured rows and unsteered, linear in the logarithm of "
             f"tokens; {NONE} outside of them"),
        line("◆: no other row is better for as few tokens (bounds and checks left out), by the "
             "estimates alone, however wide their intervals"),
        line("always, never, ≥ n, ≤ n: the row is cheaper than the column for any number of "
             "queries, for none, from n on, up to n; seconds are compared on equal devices only; "
             "shorter answers are cheaper answers; cost.break_even.csv has every pair"),
    ]  # fmt: skip
    if any(math.isnan(bill.prepared.labels) for bill in found):
        lines.append(line(f"labels {NONE}: also where a fit of an older version did not record it"))
    return Notes("Legend", tuple(lines))


# ---------------------------------------------------------------------------- records


def _record(bill: Bill, terms: Terms) -> Record:
    once = bill.prepared
    return {
        "method": bill.label,
        "benchmarks": len(bill.rows),
        "answers": bill.answer.answers,
        "tokens_per_answer": bill.answer.total,
        **{f"tokens_{role}": n for role, n in bill.answer.tokens.items()},
        "tokens_relative": tokens_ratio(bill.answer, bill.floor),
        "calls_per_answer": bill.forwards,
        "seconds_per_answer": bill.answer.seconds,
        "seconds_relative": seconds_ratio(bill.answer, bill.floor),
        "peak_bytes": bill.peak,
        **{f"measuring_{role}": n for role, n in sorted(bill.scoring.items())},
        "measuring_dollars": bill.dollars,
        "labels": once.labels,
        "fit_tokens": sum(once.fit.tokens.values()),
        **{f"fit_tokens_{role}": n for role, n in sorted(once.fit.tokens.items())},
        "fit_calls": sum(once.fit.forwards.values()),
        **{f"fit_calls_{role}": n for role, n in sorted(once.fit.forwards.items())},
        "fit_seconds": sum(once.fit.seconds.values()),
        "disk_bytes": once.disk,
        "tuning_trials": once.trials,
        "tuning_tokens": sum(once.tuning.tokens.values()),
        "tuning_seconds": sum(once.tuning.seconds.values()),
        **{f"tokens_at_{q}_queries": bill.amortised(q) for q in QUERIES},
        "protocol": terms.protocol,
        "protocol_hash": terms.hash,
    }


def _pairs(found: Sequence[Bill]) -> list[Record]:
    records: list[Record] = []
    for a in found:
        for b in found:
            if a is not b:
                record: Record = {"method": a.label, "against": b.label}
                for unit in get_args(Unit):
                    kind, n = cheaper(a, b, unit)
                    record |= {f"{unit}_cheaper": kind, f"{unit}_queries": n}
                records.append(record)
    return records
