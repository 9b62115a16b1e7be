"""Records in, tables out: one per benchmark and one over all, each in three formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from harness.conduct import store
from harness.report.capability import read_taxes
from harness.report.capability_page import write_tables as write_capability
from harness.report.categories import by_category, category_grids, draw_radar
from harness.report.columns import (
    decimals,
    further_columns,
    heading,
    main_columns,
    spread,
)
from harness.report.comparison import Comparison, compare, declared
from harness.report.cost.page import write_cost
from harness.report.fields import row_record
from harness.report.frames import REFERENCE, Cell, Row, fit_seconds, read_cell, read_run
from harness.report.frontier.page import write_frontier
from harness.report.leaderboard import board_records, leaderboards
from harness.report.legend import counts, legend, provenance, reading, skipped
from harness.report.markup import Block, Grid, Page, shown, to_csv
from harness.report.overall import overall_page, overall_records
from harness.report.pages import write_page
from harness.report.safety import safety_blocks
from harness.report.terms import Terms, choose_terms
from harness.report.variance_page import write_variance
from harness.report.verdict_grids import Calibrations, calibrations, citations, verdict_grids


def write_tables(results: Path, protocol: str, hash: str | None = None) -> list[Path]:
    """Write every table and figure of a protocol; give the paths, ``overall.md`` first.

    hash  which of the protocol's hashes; without one, the newest complete one.
    Raises PlumblineError where there is no finished run, or runs of several hashes meet.
    """
    from harness.report.figures import draw_benchmark, draw_overall

    terms = choose_terms(results, protocol, hash)
    cells = [cell for folder in terms.benchmarks if (cell := read_cell(folder)).spec]
    comparisons = declared([compare(cell) for cell in cells])
    known = calibrations(results, protocol)
    out = results / "tables" / protocol
    pictures = draw_overall(comparisons, out)
    taxes = read_taxes(results, f"{protocol}-{terms.hash}")
    beside = [tax for tax in taxes if tax.spec["limit"] is None]
    page = overall_page(terms, comparisons, pictures, beside)
    records = overall_records(terms, comparisons, beside)
    written = write_page(out / "overall", page, records) + pictures
    written += write_capability(results, protocol, terms.hash, taxes) if taxes else []
    written += write_cost(results, terms, comparisons, out)
    written += write_variance(terms, comparisons, out)
    for comparison in comparisons:
        records = [
            row_record(result, comparison, terms, fit_seconds(results, result.row))
            for result in comparison.results
        ]
        split = by_category(comparison)
        pictures = draw_benchmark(comparison, out) + draw_radar(comparison, split, out)
        boards = leaderboards(comparison)
        further = [
            *boards,
            *category_grids(comparison, split),
            *safety_blocks(comparison, comparisons),
        ]
        frontier = write_frontier(results, terms.folder.name, comparison.cell, out)
        page = benchmark_page(comparison, terms, [*pictures, *frontier], known, further)
        written += write_page(out / comparison.cell.benchmark, page, records) + pictures + frontier
        if boards:
            path = out / f"{comparison.cell.benchmark}.leaderboard.csv"
            store.write_text(path, to_csv(board_records(comparison)))
            written.append(path)
    _clear(out, {path.name for path in written})
    return written


def benchmark_page(
    comparison: Comparison,
    terms: Terms,
    pictures: Sequence[Path] = (),
    known: Calibrations = MappingProxyType({}),
    further: Sequence[Block] = (),
) -> Page:
    """Lay out one benchmark: what is needed first, the rest below it, then the legend.

    known    the calibration files of its judges.
    further  what only this kind of benchmark has: a leaderboard's numbers, categories, safety.
    """
    spec = comparison.spec
    first, second = main_columns(comparison), further_columns(comparison)
    title = str(spec.get("title") or comparison.cell.benchmark)
    grids = (
        Grid(
            name,
            tuple(column.header for column in columns),
            tuple(
                tuple(column.cell(result) for column in columns)
                for result in comparison.results
                if result.row.runs or columns is first
            ),
        )
        for name, columns in (("Comparison", first), ("Further measurements", second))
    )
    judging, third = verdict_grids(comparison)
    notes = [
        citations(comparison.scorers, terms.protocol, known),
        skipped(comparison),
        legend(comparison, [*first, *second, *third]),
        counts(comparison),
        provenance(terms, [comparison]),
    ]
    first_grid, second_grid = grids
    blocks: list[Block | None] = [
        first_grid,
        *shown(pictures),
        second_grid,
        *judging,
        *further,
        *notes,
    ]
    told = tuple(block for block in blocks if block is not None)
    return Page(str(spec.get("about") or title), title, reading(comparison), told)


def cell_summary(run_folder: Path, reference: Path | None = None) -> str:
    """Sum up one finished run in one line: headline, difference, items, seconds.

    reference  the run folder of ``unsteered`` on the same benchmark, where there is one.
    """
    run = read_run(run_folder)
    rows = [Row(run.spec["method"], (run,))]
    if reference is not None and reference != run_folder:
        rows.insert(0, Row(REFERENCE, (read_run(reference),)))
    comparison = compare(Cell(run.spec["benchmark"], tuple(rows)))
    result = comparison.results[-1]
    parts = [run.spec["benchmark"], result.row.label]
    if comparison.headline:
        name = heading(comparison, comparison.headline)
        parts.append(f"{name} {spread(result.headline, decimals([result.headline]))}")
    if result.difference is not None and not result.why:
        text = spread(result.difference, decimals([result.difference]), signed=True)
        parts.append(f"{text} to {REFERENCE}")
    elif result.why and result.why != "reference":
        parts.append(result.why)
    parts.append(f"n={len(run.keys)}")
    seconds = sum(sum(ledger.seconds.values()) for ledger in run.ledgers.values())
    parts.append(f"{seconds:.1f} s")
    return "  ".join(parts)


def _clear(out: Path, written: set[str]) -> None:
    """Take away tables of benchmarks that this set no longer has: one folder, one set."""
    tables = [path for path in out.glob("*.csv") if path.name not in written]
    gone = [path for path in tables if path.read_bytes().startswith(b"benchmark,method,")]
    for old in {old for path in gone for old in out.glob(f"{path.stem}.*")}:
        old.unlink()
