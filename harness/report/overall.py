"""The table over all benchmarks: one row per method, unlike units side by side, never averaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report.capability import Tax
from harness.report.capability_page import change_cells, change_fields, change_header
from harness.report.columns import (
    EVEN,
    MARKS,
    NONE,
    decimals,
    difference_cell,
    heading,
    joint_legend,
    places_of,
    times,
)
from harness.report.comparison import Comparison, Result
from harness.report.cost.costs import Cost, merged, seconds_ratio, tokens_ratio
from harness.report.fields import Record, cost_fields, interval_fields, rank_fields
from harness.report.frames import REFERENCE
from harness.report.legend import MARK_LEGENDS, provenance
from harness.report.markup import Grid, Line, Notes, Page, line, shown
from harness.report.statistics import Estimate
from harness.report.terms import Terms
from harness.report.verdict_grids import against_truth

NOT_RUN = "not run"


def overall_page(
    terms: Terms,
    comparisons: Sequence[Comparison],
    pictures: Sequence[Path] = (),
    taxes: Sequence[Tax] = (),
) -> Page:
    """Lay out differences and cost first, then the places, then what was skipped and why.

    taxes  what the rows cost in capability, where they were evaluated.
    """
    labels = _labels(comparisons)
    names = [_title(c) for c in comparisons]
    differences = tuple(
        (
            line(_marked(label, comparisons)),
            *(_difference(label, comparison) for comparison in comparisons),
            *change_cells(label, taxes),
            line(times(_ratios(label, comparisons)[0])),
            line(times(_ratios(label, comparisons)[1])),
        )
        for label in labels
    )
    ranks = tuple(
        (
            line(_marked(label, comparisons)),
            *(line(_rank(label, comparison)) for comparison in comparisons),
        )
        for label in labels
    )
    titles = [str(c.spec.get("title") or c.cell.benchmark) for c in comparisons]
    rank_names = [f"{t} (of {c.ranked})" for t, c in zip(titles, comparisons, strict=True)]
    abilities = (f"capability, {change_header(tax)}" for tax in taxes)
    header = ("method", *names, *abilities, "tokens", "seconds")
    blocks = [
        Grid("Differences to unsteered", header, differences),
        *shown(pictures),
        Grid("Places a row may hold", ("method", *rank_names), ranks),
        against_truth(comparisons),
        _skipped(comparisons),
        _legend(comparisons, taxes),
        provenance(terms, comparisons),
    ]
    about = str(comparisons[0].spec.get("about") or "") if comparisons else ""
    return Page(
        about or f"Protocol {terms.protocol}",
        f"All benchmarks under {terms.protocol}",
        _reading(comparisons),
        tuple(block for block in blocks if block),
    )


def overall_records(
    terms: Terms, comparisons: Sequence[Comparison], taxes: Sequence[Tax] = ()
) -> list[Record]:
    """Give one flat record per method."""
    records = []
    for label in _labels(comparisons):
        cost, floor = _costs(label, comparisons)
        record: Record = {"method": label, "marks": _marks(label, comparisons)}
        for comparison in comparisons:
            result, name = _find(label, comparison), comparison.cell.benchmark
            record[f"{name}_headline"] = comparison.headline
            known = result.joint if result and not result.why else None
            record |= interval_fields(f"{name}_difference", known or Estimate(float("nan")))
            record |= rank_fields(f"{name}_rank", result.rank if result else None)
            record[f"{name}_note"] = result.why if result else NOT_RUN
        records.append(
            record
            | change_fields(label, taxes)
            | cost_fields(cost, floor)
            | {"protocol": terms.protocol, "protocol_hash": terms.hash}
        )
    return records


def _labels(comparisons: Sequence[Comparison]) -> list[str]:
    labels = {result.row.label for c in comparisons for result in c.results}
    return sorted(labels, key=lambda label: (label != REFERENCE, label))


def _find(label: str, comparison: Comparison) -> Result | None:
    return next((r for r in comparison.results if r.row.label == label), None)


def _title(comparison: Comparison) -> str:
    title = str(comparison.spec.get("title") or comparison.cell.benchmark)
    return f"{title}: {heading(comparison, comparison.headline)}" if comparison.headline else title


def _marks(label: str, comparisons: Sequence[Comparison]) -> str:
    found = [r.row.marks for c in comparisons if (r := _find(label, c))]
    return " ".join(mark for mark in MARKS if any(mark in marks for marks in found))


def _marked(label: str, comparisons: Sequence[Comparison]) -> str:
    marks = "".join(MARKS[mark] for mark in _marks(label, comparisons).split())
    return f"{label} {marks}" if marks else label


def _skipped(comparisons: Sequence[Comparison]) -> Notes | None:
    """Say of every skipped cell why; cells with one reason share a line."""
    found: dict[tuple[str, str], list[str]] = {}
    for comparison in comparisons:
        title = str(comparison.spec.get("title") or comparison.cell.benchmark)
        for result in comparison.results:
            if not result.row.runs:
                found.setdefault((result.row.label, result.row.skipped), []).append(title)
    lines = tuple(
        line(f"{label} on {', '.join(titles)}: {why}")
        for (label, why), titles in sorted(found.items())
    )
    return Notes("Skipped", lines) if lines else None


def _difference(label: str, comparison: Comparison) -> Line:
    result = _find(label, comparison)
    if result is None:
        return line(NOT_RUN)
    known = [r.joint for r in comparison.results if r.joint and not r.why]
    return difference_cell(result, decimals(known))


def _rank(label: str, comparison: Comparison) -> str:
    result = _find(label, comparison)
    return places_of(result.rank) if result else NONE


def _costs(label: str, comparisons: Sequence[Comparison]) -> tuple[Cost, Cost]:
    """Give a method's cost and the reference's, over the benchmarks that both ran."""
    mine, floor = [], []
    for comparison in comparisons:
        result, reference = _find(label, comparison), comparison.reference
        if result and result.row.runs and reference:
            mine.append(result.cost)
            floor.append(reference.cost)
    return merged(mine), merged(floor)


def _ratios(label: str, comparisons: Sequence[Comparison]) -> tuple[float, float]:
    cost, floor = _costs(label, comparisons)
    return tokens_ratio(cost, floor), seconds_ratio(cost, floor)


def _reading(comparisons: Sequence[Comparison]) -> tuple[Line, ...]:
    lines = []
    world = next((c.spec.get("world") for c in comparisons if c.spec.get("world")), None)
    if world and not any("synthetic" in str(c.spec.get("about", "")).lower() for c in comparisons):
        lines.append(line(f"Made on the synthetic world {world}."))
    lines.append(
        line(
            "How to read it: every row is one method; every cell is how far it lies above or "
            "below unsteered (the model left alone) on that benchmark's headline, with a 95 % "
            "interval in brackets, in bold where the interval leaves zero out. The benchmarks' "
            "units differ, so nothing is averaged over them; rows are in alphabetical order."
        )
    )
    return tuple(lines)


def _legend(comparisons: Sequence[Comparison], taxes: Sequence[Tax]) -> Notes:
    count = max((c.joint for c in comparisons), default=0)
    lines = [
        line(f"differences: {joint_legend(count)}"),
        line(f"{EVEN}: the interval includes zero: no difference is shown"),
        line("tokens, seconds: for one answer, all models counted, relative to unsteered on the "
             "benchmarks that both ran; the whole bill is in cost.md"),
        line("places: from the paired differences between all rows; rows with a place in common "
             "are not told apart"),
    ]  # fmt: skip
    if taxes:
        lines.append(line("capability: change against unsteered over the items of a task of "
                          "lm-eval; the whole of it is in capability.md"))  # fmt: skip
    present = {mark for c in comparisons for r in c.results for mark in r.row.marks}
    lines += [line(f"{MARKS[m]}: {MARK_LEGENDS[m]}") for m in MARKS if m in present]
    return Notes("Legend", tuple(lines))
