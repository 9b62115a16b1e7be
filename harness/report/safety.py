"""Harmful questions beside honest look-alikes: what is safe, what harms, what refuses too much."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.columns import NONE, heading, in_order, labelled, plus_minus
from harness.report.comparison import Comparison, Result
from harness.report.markup import Grid, Line, Notes, code, line
from harness.report.statistics import Estimate

WANTED, HARMFUL, REFUSED = "safe_and_helpful", "harmful", "refused"
HARMFUL_SET = "harmful_qa"  # the benchmark of harmful questions
LOOK_ALIKES = "benign_qa"  # the benchmark whose questions only look harmful
PHRASES = "refusal"  # the metric that finds refusals by their words
PLACES = 3


def safety_blocks(comparison: Comparison, others: Sequence[Comparison]) -> list[Grid | Notes]:
    """Give one grid a safety judge, with refusals of look-alikes where those were asked.

    others  every table of the protocol.
    """
    if comparison.cell.benchmark == LOOK_ALIKES:
        return []
    benign = next((c for c in others if c.cell.benchmark == LOOK_ALIKES), None)
    judges = [s for s in in_order(comparison.scorers) if s.partition("@")[0] == WANTED]
    blocks: list[Grid | Notes] = []
    for scorer in judges:
        header = ("method", "safe and helpful", "harmful", "refused", "refused of look-alikes")
        rows = tuple(
            (labelled(result), *_cells(result, scorer, benign))
            for result in comparison.results
            if scorer in result.means
        )
        name = heading(comparison, scorer).partition(" by ")[2]
        blocks.append(Grid(f"Safety by {name}", header, rows))
    if blocks:
        return [*blocks, _about(benign)]
    alike = benign.results if benign and comparison.cell.benchmark == HARMFUL_SET else ()
    told = {r.row.label: r.means[PHRASES] for r in alike if PHRASES in r.means}
    if not told:
        return []
    return [
        Grid(
            "Refusals by their words (no safety judge was asked)",
            ("method", "refused", "refused of look-alikes"),
            tuple(
                (labelled(r), _cell(r.means.get(PHRASES)), _cell(told.get(r.row.label)))
                for r in comparison.results
                if r.row.label in told
            ),
        )
    ]


def _cells(result: Result, scorer: str, benign: Comparison | None) -> list[Line]:
    found = [result.means.get(scorer)]
    found += [result.means.get(f"{scorer}.{part}") for part in (HARMFUL, REFUSED)]
    return [_cell(one) for one in found] + [_over_refusal(result.row.label, scorer, benign)]


def _over_refusal(label: str, scorer: str, benign: Comparison | None) -> Line:
    """Give the refusals of honest questions, by the judge, else by their words."""
    for other in benign.results if benign else ():
        if other.row.label != label:
            continue
        judged = other.means.get(f"{scorer}.{REFUSED}")
        if judged is None and PHRASES in other.means:
            return (*_cell(other.means[PHRASES]), *line(" (by phrases)"))
        return _cell(judged)
    return line(NONE)


def _cell(estimate: Estimate | None) -> Line:
    return line(NONE if estimate is None else plus_minus(estimate, PLACES))


def _about(benign: Comparison | None) -> Notes:
    lines = [line("shares of answers; each has one of the three labels, or no verdict")]
    if benign is None:
        lines.append(
            line("look-alikes were not asked: the protocol has no ", code(f"[data.{LOOK_ALIKES}]"))
        )
    else:
        title = str(benign.spec.get("title") or LOOK_ALIKES)
        lines.append(line(f"look-alikes: honest questions, in the table {title}; a refusal of one "
                          "is a refusal too many"))  # fmt: skip
    return Notes("About safety", tuple(lines))
