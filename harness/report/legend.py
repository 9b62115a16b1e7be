"""The words around a table: how to read it, what its marks mean, what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.report.columns import EVEN, MARKS, NONE, Column, heading
from harness.report.comparison import Comparison, Result, is_optimised, judged
from harness.report.frames import Run
from harness.report.markup import Line, Notes, code, line
from harness.report.statistics import FEWEST_CLUSTERS
from harness.report.terms import Terms

MARK_LEGENDS = {
    "transductive": "read the benchmark's own prompts (never its answers) while fitting",
    "limited": "run on the first prompts only (LIMIT): a trial, not a result",
    "ceiling": "uses the measure it is judged by: no method, a bound on what is to be gained",
    "control": "a check on the bench itself, not a method",
    "external": "imported: answered elsewhere, under terms that nobody here knows",
}


def reading(comparison: Comparison) -> tuple[Line, ...]:
    """Give the sentences between a table's first line and its numbers."""
    lines: list[Line] = []
    world = comparison.spec.get("world")
    if world and "synthetic" not in str(comparison.spec.get("about", "")).lower():
        lines.append(
            line(f"Made on the synthetic world {world}: it says how methods behave, not how "
                 "they would do on human data.")
        )  # fmt: skip
    if comparison.headline:
        name = heading(comparison, comparison.headline)
        lines.append(
            line(
                f"How to read it: every row is one method answering the same prompts; its {name} "
                "stands first, then how far it lies above or below unsteered (the model left "
                "alone), with 95 % intervals in brackets; a difference is in bold where its "
                "interval leaves zero out. Rows are in alphabetical order, not in order of merit."
            )
        )
    else:
        lines.append(
            line(
                "How to read it: every row is one method answering the same prompts. No measure "
                "that is independent of what the methods optimise exists for all rows, so no "
                "row is compared with another."
            )
        )
    return tuple(lines)


def legend(comparison: Comparison, columns: Sequence[Column]) -> Notes:
    """Explain the columns and marks that occur, and no others."""
    lines = [line(code(c.header), f": {c.legend}") for c in columns if c.header and c.legend]
    present = {mark for result in comparison.results for mark in result.row.marks}
    lines += [line(f"{MARKS[m]}: {MARK_LEGENDS[m]}") for m in MARKS if m in present]
    joint = [r.joint for r in comparison.results if r.joint and not r.why]
    if any(not e.excludes_zero and e.low == e.low for e in joint):
        lines.append(line(f"{EVEN}: the interval includes zero: no difference is shown"))
    if comparison.withheld:
        lines.append(
            line("Rows whose settings were chosen by different numbers of trials, or by trials of "
                 "different things, are not ranked against each other, whatever their difference.")
        )  # fmt: skip
    if any(result.why == "items differ" for result in comparison.results):
        lines.append(
            line("items differ: the row did not answer the prompts that unsteered answered, "
                 "so no difference is given.")
        )  # fmt: skip
    few = [r for r in comparison.results if 0 < r.headline.clusters < FEWEST_CLUSTERS]
    if few:
        lines.append(line(f"Fewer than {FEWEST_CLUSTERS} clusters: no interval is given."))
    if judged(comparison.headline) and not any(
        comparison.headline in r.row.scorers for r in comparison.results if r.why == "reference"
    ):
        lines.append(line("unsteered is what the judge compares with: even (0.5) with itself."))
    if any(is_optimised(comparison.cell, s) for s in comparison.scorers):
        lines.append(line("The optimised reward is never the headline and is never in bold."))
    return Notes("Legend", tuple(lines))


def skipped(comparison: Comparison) -> Notes | None:
    """Say of every skipped row why it was skipped."""
    rows = [result.row for result in comparison.results if not result.row.runs]
    lines = tuple(line(f"{row.label}: {row.skipped}") for row in rows)
    return Notes("Skipped", lines) if lines else None


def counts(comparison: Comparison) -> Notes | None:
    """List what was left out, skipped, odd or without a value, with its count."""
    results, lines = comparison.results, list[Line]()
    ran = [result for result in results if result.row.runs]
    lines += _by_reason(ran, _noted)
    for scorer in comparison.scorers:
        odd = [found for result in ran if (found := _odd(result, scorer, comparison))]
        if odd:
            lines.append(line(f"{heading(comparison, scorer)}: {'; '.join(odd)}"))
    lines += _by_reason(ran, _kl) + _by_reason(ran, _unmeasured)
    if comparison.cell.superseded:
        lines.append(
            line(f"{comparison.cell.superseded} runs left out: a larger or newer run of the same "
                 "row exists")
        )  # fmt: skip
    if comparison.cell.unfinished:
        lines.append(line(f"{comparison.cell.unfinished} runs left out: not finished"))
    return Notes("Left out or odd", tuple(lines)) if lines else None


def provenance(terms: Terms, specs: Sequence[Comparison]) -> Notes:
    """Say under which terms the table stands, and how to make it again."""
    lines = [line("protocol ", code(terms.protocol), ", hash ", code(terms.hash))]
    runs = [run for c in specs for r in c.results for run in r.row.runs]
    files = sorted({str(run.made["protocol_file"]) for run in runs if "protocol_file" in run.made})
    if files:
        lines.append(line(f"hash of the whole protocol file, judging included: {', '.join(files)}"))
    if terms.others:
        why = "newest complete" if terms.complete else "newest (none is complete)"
        lines.append(
            line(f"other hashes of this protocol have runs too ({', '.join(terms.others)}); "
                 f"shown is {terms.hash}, unless asked for another the {why} one")
        )  # fmt: skip
    if any((run.spec.get("model") or {}).get("unpinned") for run in runs):
        lines.append(line("unpinned: the protocol names no fixed revision of its model"))
    lines += _paid([result for c in specs for result in c.results])
    lines.append(line("make it again: ", code(f"make tables PROTOCOL={terms.protocol}")))
    return Notes("Terms", tuple(lines))


def _paid(results: Sequence[Result]) -> list[Line]:
    """Say what endpoints charged for judging the rows, where the prices were given."""
    spent: dict[str, float] = {}
    for result in results:
        for run in result.row.runs:
            for ledger in run.ledgers.values():
                dollars = sum(ledger.dollars.values())
                spent[result.row.label] = spent.get(result.row.label, 0.0) + dollars
    rows = ", ".join(f"{label} ${dollars:.4f}" for label, dollars in spent.items() if dollars)
    return [line(f"judge dollars, at the prices given: {rows}")] if rows else []


def _by_reason(ran: Sequence[Result], tell: Callable[[Run], list[str]]) -> list[Line]:
    """Say once what several rows have in common, and name the rows unless it is all of them."""
    found: dict[str, list[str]] = {}
    for result in ran:
        for text in sorted({text for run in result.row.runs for text in tell(run)}):
            found.setdefault(text, []).append(result.row.label)
    return [
        line(text if len(labels) == len(ran) else f"{text} ({', '.join(labels)})")
        for text, labels in sorted(found.items())
    ]


def _noted(run: Run) -> list[str]:
    return [f"{reason}: {n}" for reason, n in run.notes.items()]


def _unmeasured(run: Run) -> list[str]:
    missing = run.made.get("unmeasured") or {}
    return [f"{name} not measured: {reason}" for name, reason in missing.items()]


def _kl(run: Run) -> list[str]:
    kl = run.spec.get("kl") or {}
    name = f"KL {NONE}" if kl.get("kind") == "none" else "KL"
    reason = kl.get("reason") or ("not measured" if kl.get("kind") == "none" else "")
    return [f"{name}: {reason}"] if reason else []


def _odd(result: Result, scorer: str, comparison: Comparison) -> str:
    """List a row's outcomes other than "ok", and what missing verdicts could change."""
    kinds = {kind: n for kind, n in sorted(result.row.outcomes(scorer).items()) if kind != "ok"}
    text = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    found = result.verdicts.get(scorer)
    if scorer == comparison.headline and found and set(kinds) - {"tie"}:
        text += f" (between {found.bound_low:.3f} and {found.bound_high:.3f} whatever they were)"
    return f"{result.row.label} {text}" if text else ""
