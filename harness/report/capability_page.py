"""The table of what methods cost in capability: Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report.capability import Tax, Taxed, compare, read_evaluated, read_taxes
from harness.report.columns import MARKS, NONE, decimals, number, spread
from harness.report.fields import Record, interval_fields
from harness.report.frames import REFERENCE, finished
from harness.report.legend import MARK_LEGENDS
from harness.report.markup import (
    Block,
    Grid,
    Line,
    Notes,
    Page,
    bold,
    code,
    line,
)
from harness.report.pages import write_page
from harness.report.statistics import Estimate

CHANGE = "capability change against unsteered"
NAMES = {"bits_per_byte": "bits per byte (mean over texts)", "perplexity": "log perplexity"}


def write_tables(
    results: Path, protocol: str, hash: str, taxes: Sequence[Tax] | None = None
) -> list[Path]:
    """Write ``capability.md``, ``.csv`` and ``.tex``; give the paths, the Markdown first.

    taxes  what was read already.
    """
    taxes = read_taxes(results, f"{protocol}-{hash}") if taxes is None else taxes
    page, records = _page(taxes, protocol, hash), _records(taxes, protocol, hash)
    return write_page(results / "tables" / protocol / "capability", page, records)


def summary(folder: Path) -> str:
    """Sum up one finished row on one task: headline, change, items, seconds."""
    run = read_evaluated(folder)
    label, runs = str(run.spec["method"]), {str(run.spec["method"]): [run]}
    if label != REFERENCE:
        others = (folder.parents[1] / REFERENCE).glob("*/spec.json")
        bases = [read_evaluated(spec.parent) for spec in others if finished(spec.parent)]
        same = [base for base in bases if base.put == run.put]
        runs |= {REFERENCE: same[-1:]} if same else {}
    row = compare(runs)[label]
    headline = run.measures[0]
    level = row.level[headline]
    parts = [str(run.spec["task"]), label, f"{named(headline)} {_spread(level)}"]
    if headline in row.change:
        parts.append(f"{_spread(row.change[headline], signed=True)} to {REFERENCE}")
    elif label != REFERENCE:
        parts.append(f"no {REFERENCE} run")
    return "  ".join([*parts, f"n={level.n}", f"{run.seconds:.1f} s"])


def named(measure: str) -> str:
    """Name a measure as a column does; the filter is named where it is not the plain one."""
    name, _, how = measure.partition(",")
    title = NAMES.get(name, name)
    return title if how in ("none", "") else f"{title} ({how})"


def change_cell(row: Taxed | None, measure: str, places: int) -> Line:
    """Give a row's change on a task, bold where its interval leaves zero out, or why none."""
    if row is None:
        return line("not run")
    if not row.runs:
        return line("skipped")
    if row.label == REFERENCE:
        return line("reference")
    if measure not in row.change:
        return line(f"no {REFERENCE} run")
    text = spread(row.change[measure], places, signed=True)
    return line(bold(text) if row.change[measure].excludes_zero else text)


def change_cells(label: str, taxes: Sequence[Tax]) -> tuple[Line, ...]:
    """Give a row's change on every task."""
    return tuple(change_cell(tax.row(label), tax.measures[0], _places(tax)) for tax in taxes)


def change_fields(label: str, taxes: Sequence[Tax]) -> Record:
    """Give a row's change on every task, with its interval, as flat fields."""
    record: Record = {}
    for tax in taxes:
        row = tax.row(label)
        known = row.change.get(tax.measures[0]) if row else None
        name = f"{tax.spec['task']}_capability_change"
        record |= interval_fields(name, known or Estimate(float("nan")))
    return record


def change_header(tax: Tax) -> str:
    """Name a task, its headline and which way is better."""
    measure = tax.measures[0]
    return f"{tax.title}: {named(measure)} {_arrow(tax, measure)}".strip()


def _page(taxes: Sequence[Tax], protocol: str, hash: str) -> Page:
    about = next((str(tax.spec.get("about") or "") for tax in taxes), "")
    intro = line(
        "How to read it: what a method costs in abilities it was not meant to change. Every cell "
        "is the mean over the task's items of a row's measure less that of unsteered (the model "
        "left alone) on the same item, with its 95 % interval in brackets, in bold where that "
        "leaves zero out; ↑ more is better, ↓ less is better. Tasks are not averaged."
    )
    labels = sorted({r.label for tax in taxes for r in tax.rows}, key=lambda n: (n != REFERENCE, n))
    rows = tuple(
        (
            line(_marked(label, taxes)),
            *change_cells(label, taxes),
        )
        for label in labels
    )
    header = ("method", *map(change_header, taxes))
    blocks: list[Block | None] = [Grid(CHANGE[0].upper() + CHANGE[1:], header, rows)]
    blocks += [_grid(tax) for tax in taxes]
    blocks += [_skipped(taxes), _odd(taxes), _legend(taxes), _terms(taxes, protocol, hash)]
    title = f"Capability under {protocol}"
    return Page(about or title, title, (intro,), tuple(block for block in blocks if block))


def _grid(tax: Tax) -> Grid:
    """Lay out one task: every measure's level, then the headline's change."""
    places = {m: decimals(r.level[m] for r in tax.rows if m in r.level) for m in tax.measures}
    measures = [f"{named(m)} {_arrow(tax, m)}".strip() for m in tax.measures]
    rows = tuple(
        (
            line(row.label),
            *(line(spread(row.level[m], places[m]) if m in row.level else NONE)
              for m in tax.measures),
            change_cell(row, tax.measures[0], _places(tax)),
            line(_detectable(row, tax)),
            line(str(row.level[tax.measures[0]].n) if row.runs else NONE),
            line(f"{sum(run.seconds for run in row.runs):.1f}" if row.runs else NONE),
        )
        for row in tax.rows
    )  # fmt: skip
    first = named(tax.measures[0])
    change = CHANGE if len(tax.measures) == 1 else f"{CHANGE} ({first})"
    header = ("method", *measures, change, "detectable", "items", "seconds")
    return Grid(tax.title, header, rows)


def _records(taxes: Sequence[Tax], protocol: str, hash: str) -> list[Record]:
    """Give one flat record per row, task and measure."""
    records: list[Record] = []
    for tax in taxes:
        for row in tax.rows:
            for place, measure in enumerate(tax.measures if row.runs else tax.measures[:1]):
                level = row.level.get(measure, Estimate(float("nan")))
                change = row.change.get(measure, Estimate(float("nan")))
                whole = row.runs[0].whole.get(measure, "") if len(row.runs) == 1 else ""
                records.append(
                    {
                        "method": row.label,
                        "marks": " ".join(_marks(row)),
                        "task": tax.spec["task"],
                        "measure": measure,
                        "headline": "yes" if place == 0 else "no",
                        "higher_is_better": "yes" if _higher(tax, measure) else "no",
                        **interval_fields("value", level),
                        **interval_fields("change", change),
                        "detectable": change.detectable,
                        "items": level.n,
                        "fits": len(row.runs),
                        "lm_eval_figure": whole,
                        "chat": tax.spec["chat"],
                        "fewshot": "" if tax.spec["fewshot"] is None else tax.spec["fewshot"],
                        "limit": "" if tax.spec["limit"] is None else tax.spec["limit"],
                        "note": f"skipped: {row.skipped}" if row.skipped else "",
                        "protocol": protocol,
                        "protocol_hash": hash,
                    }
                )
    return records


# ---------------------------------------------------------------- words


def _skipped(taxes: Sequence[Tax]) -> Notes | None:
    found: dict[tuple[str, str], list[str]] = {}
    for tax in taxes:
        for row in tax.rows:
            if row.skipped:
                found.setdefault((row.label, row.skipped), []).append(tax.title)
    lines = tuple(
        line(f"{label} on {', '.join(titles)}: {why}")
        for (label, why), titles in sorted(found.items())
    )
    return Notes("Skipped", lines) if lines else None


def _odd(taxes: Sequence[Tax]) -> Notes | None:
    lines = []
    for tax in taxes:
        for row in tax.rows:
            told = [f"{count} {why}" for run in row.runs for why, count in run.notes.items()]
            if told:
                lines.append(line(f"{tax.title}, {row.label}: {'; '.join(told)}"))
        if tax.superseded:
            lines.append(line(f"{tax.title}: {tax.superseded} older runs of the same rows"))
    return Notes("Left out or odd", tuple(lines)) if lines else None


def _legend(taxes: Sequence[Tax]) -> Notes:
    lines = [
        line("intervals: items resampled 20,000 times; a row with three or more fits has its fits "
             "resampled too, and with fewer the interval says nothing about another fit"),
        line("detectable: the smallest true change that a comparison this size finds four times "
             "in five"),
        line("chat: ", ", ".join(
            f"{tax.title} {'in the chat template' if tax.spec['chat'] else 'as plain text'}"
            for tax in taxes)),
    ]  # fmt: skip
    present = {mark for tax in taxes for row in tax.rows for mark in _marks(row)}
    lines += [line(f"{MARKS[m]}: {MARK_LEGENDS[m]}") for m in MARKS if m in present]
    return Notes("Legend", tuple(lines))


def _terms(taxes: Sequence[Tax], protocol: str, hash: str) -> Notes:
    versions = ", ".join(sorted({str(tax.spec["lm_eval"]) for tax in taxes}))
    names = ",".join(dict.fromkeys(str(tax.spec["task"]) for tax in taxes))
    return Notes(
        "Terms",
        (
            line("protocol ", code(protocol), ", hash ", code(hash), f"; lm-eval {versions}"),
            line("make it again: ", code(f"make tax METHOD=… TASKS={names} PROTOCOL={protocol}")),
        ),
    )


def _marks(row: Taxed) -> list[str]:
    return list(dict.fromkeys(m for run in row.runs for m in run.spec["marks"]))


def _marked(label: str, taxes: Sequence[Tax]) -> str:
    rows = [row for tax in taxes if (row := tax.row(label))]
    marks = "".join(MARKS[m] for m in dict.fromkeys(m for r in rows for m in _marks(r)))
    return f"{label} {marks}" if marks else label


def _higher(tax: Tax, measure: str) -> bool:
    return bool(tax.higher.get(measure.partition(",")[0], True))


def _arrow(tax: Tax, measure: str) -> str:
    return "↑" if _higher(tax, measure) else "↓"


def _places(tax: Tax) -> int:
    return decimals(row.change[m] for row in tax.rows for m in tax.measures[:1] if m in row.change)


def _detectable(row: Taxed, tax: Tax) -> str:
    change = row.change.get(tax.measures[0])
    return number(change.detectable, _places(tax)) if change else NONE


def _spread(estimate: Estimate, signed: bool = False) -> str:
    return spread(estimate, decimals([estimate]), signed=signed)
