"""The page of variances: what the width of every interval is made of, and what would narrow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from harness.report.columns import NONE, heading
from harness.report.comparison import Comparison
from harness.report.fields import Record
from harness.report.frames import REFERENCE
from harness.report.legend import provenance
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
from harness.report.terms import Terms
from harness.report.variance import AXES, FIT, PARTS, PROMPT, SAMPLING, Split, split

WORDS = {FIT: "fits", SAMPLING: "samplings", PROMPT: "prompts"}
Found = tuple[Comparison, dict[str, Split | str]]


def write_variance(terms: Terms, comparisons: Sequence[Comparison], out: Path) -> list[Path]:
    """Write ``variance.md``, ``.csv`` and ``.tex`` where any row has several runs.

    Where none has, pages of other days go: they would speak of runs that are not here.
    """
    found: list[Found] = []
    for comparison in comparisons:
        rows = [r.row for r in comparison.results if len(r.row.runs) > 1]
        splits = {row.label: split(comparison, row) for row in rows if row.label != REFERENCE}
        if splits:
            found.append((comparison, splits))
    if not found:
        for old in out.glob("variance.*"):
            old.unlink()
        return []
    return write_page(out / "variance", _page(terms, found), _records(terms, found))


def advice(found: Split) -> dict[str, float]:
    """Give by what share the standard error falls with twice the fits, samplings or prompts.

    Each of the three takes as many answers as the others.  NaN for what is not known.
    """
    told = {}
    for axis in AXES:
        known = axis == PROMPT or found.sizes[axis] > 1
        told[axis] = found.gain(**{axis: 2 * found.sizes[axis]}) if known else math.nan
    return told


def _page(terms: Terms, found: Sequence[Found]) -> Page:
    first = found[0][0]
    blocks: list[Block] = [_grid(comparison, splits) for comparison, splits in found]
    blocks += [_legend(found), provenance(terms, [comparison for comparison, _ in found])]
    intro = line(
        "How to read it: a row's mean difference to unsteered varies with the prompts that were "
        "asked, with how answers were drawn, and, where a method learns, with its fit. Shares are "
        "of the variance of the mean; the last columns say by how much the standard error falls "
        "with twice the fits, samplings or prompts, each of which takes as many answers."
    )
    about = str(first.spec.get("about") or f"Protocol {terms.protocol}")
    return Page(
        about, f"What intervals are made of under {terms.protocol}", (intro,), tuple(blocks)
    )


def _grid(comparison: Comparison, splits: dict[str, Split | str]) -> Grid:
    title = str(comparison.spec.get("title") or comparison.cell.benchmark)
    header = (
        "method", "fits × samplings × prompts", "se", *(f"{part}" for part in PARTS),
        *(f"twice the {WORDS[axis]}" for axis in AXES),
    )  # fmt: skip
    rows = []
    for label, one in sorted(splits.items()):
        if isinstance(one, str):
            rows.append((line(label), line(one), *(line(NONE) for _ in header[2:])))
            continue
        told = advice(one)
        known = [axis for axis in AXES if not math.isnan(told[axis])]
        best = max(known, key=lambda axis: told[axis], default=None)
        rows.append(
            (
                line(label),
                line(" × ".join(str(one.sizes[axis]) for axis in AXES)),
                line(f"{one.se:.3g}"),
                *(line(_percent(one.share(part))) for part in PARTS),
                *(_fall(told[axis], axis == best) for axis in AXES),
            )
        )
    return Grid(f"{title}: {heading(comparison, comparison.headline)}", header, tuple(rows))


def _percent(value: float) -> str:
    return NONE if math.isnan(value) else f"{100 * value:.0f} %"


def _fall(value: float, best: bool) -> Line:
    text = NONE if math.isnan(value) else f"−{100 * value:.0f} %"
    return line(bold(text) if best and value > 0 else text)


def _legend(found: Sequence[Found]) -> Notes:
    splits = [one for _, rows in found for one in rows.values() if isinstance(one, Split)]
    lines = [
        line(code("se"), ": standard error of the mean difference, from these components"),
        line(code("fit"), ": what other fits would change, over all prompts and on single ones; "
             f"{NONE} where nothing is learned, or one fit was made: then no interval holds it"),
        line(code("sampling"), f": what drawing the answers again would change; {NONE} where one "
             "seed was run: then it is inside the prompts' part and the residual"),
        line(code("prompt"), ": what other prompts would change; ", code("residual"),
             ": what changes with fit and sampling together"),
    ]  # fmt: skip
    for axis in (FIT, SAMPLING):
        counts = sorted({one.sizes[axis] for one in splits if one.sizes[axis] > 1})
        if counts:
            low, high = _reach(counts[0])
            lines.append(
                line(f"{counts[0]} {WORDS[axis]} say little of how much {WORDS[axis]} vary: the "
                     f"variance over them may be {low:.2g} to {high:.2g} times what is seen "
                     "(95 %, normal)")
            )  # fmt: skip
    if any(one.learns and one.sizes[FIT] == 1 for one in splits):
        lines.append(line("a method that learns was fitted once: SEEDS=0,1,2 fits it three times"))
    left = max((one.left for one in splits), default=0)
    if left:
        lines.append(line(f"up to {left} answers of a row left out: a run has no value for them"))
    return Notes("Legend", tuple(lines))


def _reach(count: int) -> tuple[float, float]:
    """Give the 95 % interval of a variance seen over so many, relative to what is seen."""
    from scipy.special import chdtri

    freedom = count - 1
    return freedom / float(chdtri(freedom, 0.025)), freedom / float(chdtri(freedom, 0.975))


def _records(terms: Terms, found: Sequence[Found]) -> list[Record]:
    records: list[Record] = []
    for comparison, splits in found:
        for label, one in sorted(splits.items()):
            record: Record = {
                "benchmark_name": comparison.cell.benchmark,
                "method": label,
                "headline": comparison.headline,
                "note": one if isinstance(one, str) else "",
            }
            if isinstance(one, Split):
                record |= {WORDS[axis]: one.sizes[axis] for axis in AXES}
                record |= {"answers": one.used, "answers_left_out": one.left}
                record |= {"difference": one.mean, "se": one.se}
                record |= {f"variance_{part}": one.part(part) for part in PARTS}
                record |= {f"share_{part}": one.share(part) for part in PARTS}
                for effect, value in one.components.items():
                    record["component_" + "_".join(a for a in AXES if a in effect)] = value
                for axis, fall in advice(one).items():
                    more = one.gain(**{axis: one.sizes[axis] + 1}) if fall == fall else fall
                    record[f"se_falls_with_one_more_{axis}"] = more
                    record[f"se_falls_with_twice_the_{WORDS[axis]}"] = fall
            records.append(record | {"protocol": terms.protocol, "protocol_hash": terms.hash})
    return records
