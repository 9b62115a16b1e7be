"""The verdicts of every judge in a section of their own: how they fell, how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.conduct import store
from harness.records import Json
from harness.report.columns import NONE, Column, heading, in_order, labelled, number, spread
from harness.report.comparison import Comparison, Result, judged
from harness.report.frames import REFERENCE
from harness.report.markup import Grid, Line, Notes, code, line
from harness.report.statistics import Estimate
from harness.report.trust import TRUTH, is_opponent
from harness.report.verdicts import KINDS

PLACES = 3
UNREAD = ("unparsed", "failed", "refused", "missing")
Calibrations = Mapping[str, Mapping[str, Json]]


def judge_of(scorer: str) -> str:
    """Name the judge of a win rate: what stands after "win_rate@"."""
    return scorer.partition("@")[2]


def calibrations(results: Path, protocol: str) -> Calibrations:
    """Read the calibration files of a protocol's judges, by judge."""
    folder = results / "calibration" / protocol
    return {path.stem: store.read_json(path) for path in sorted(folder.glob("*.json"))}


def verdict_columns(scorer: str) -> list[Column]:
    """Give the columns on how a judge's verdicts fell."""

    def cell(tell: Callable[[Result], str]) -> Callable[[Result], Line]:
        return lambda r: line(tell(r) if scorer in r.verdicts else NONE)

    return [
        Column("method", labelled, ""),
        Column(
            "win rate",
            cell(lambda r: spread(r.means[scorer], PLACES) if scorer in r.means else NONE),
            "share of answers the judge prefers, a tie or a split counting half",
        ),
        Column(
            "strict",
            cell(lambda r: spread(r.verdicts[scorer].strict, PLACES)),
            "share of clear wins among all verdicts",
        ),
        Column(
            "won–tied–split–lost",
            cell(lambda r: "–".join(str(r.verdicts[scorer].kinds[kind]) for kind in KINDS)),
            "verdicts; both orders make one, and a split is two orders that disagree",
        ),
        Column(
            "no verdict",
            cell(lambda r: _unread(r, scorer)),
            "answers whose verdict could not be had or read; they enter no rate",
        ),
        Column(
            "whatever they were",
            cell(lambda r: _bounds(r, scorer)),
            "least and greatest win rate over all ways the missing verdicts could have fallen",
        ),
        Column(
            "p",
            cell(lambda r: _p(r, scorer)),
            "of strict verdicts: McNemar's exact test, wins against losses (or against the "
            "reference's own wins); where verdicts share a cluster, by flipping clusters' signs",
        ),
    ]


def trust_columns(scorer: str, source: str) -> list[Column]:
    """Give the columns that hold a judge against the truth."""

    def cell(tell: Callable[[Result], str]) -> Callable[[Result], Line]:
        return lambda r: line(tell(r) if scorer in r.trust else NONE)

    def corrected(result: Result) -> str:
        found = result.trust[scorer].corrected
        if found is None:
            return NONE
        return spread(found.rate, PLACES) + (" (labels alone)" if found.one_class else "")

    by = "gold" if source == TRUTH else "people"
    return [
        Column("method", labelled, ""),
        Column(
            "judge's",
            cell(lambda r: spread(r.means[scorer], PLACES) if scorer in r.means else NONE),
            "the win rate as the judge has it",
        ),
        Column(
            "corrected",
            cell(corrected),
            "corrected by a labelled quarter of the row's own clusters (prediction-powered: "
            "the labels' mean, moved by what the judge says of the rest as far as it predicts "
            "them); its interval includes how little the slice says about the judge"
            if source == TRUTH
            else "corrected by the answers of the row that people labelled (prediction-powered); "
            "its interval includes how little they say about the judge",
        ),
        Column(
            f"by {by}",
            cell(lambda r: spread(r.trust[scorer].truth, PLACES)),
            "the win rate by the truth itself, over every answer that has one",
        ),
        Column(
            "labelled",
            cell(lambda r: str(c.labelled) if (c := r.trust[scorer].corrected) else "0"),
            "answers whose label the correction used",
        ),
        Column(
            "agrees",
            cell(lambda r: number(r.trust[scorer].agreement, 2)),
            f"share of answers on which judge and {by} say the same",
        ),
        Column(
            "kappa",
            cell(lambda r: number(r.trust[scorer].kappa, 2)),
            "the same beyond chance (Cohen's); low where nearly all answers have one verdict",
        ),
    ]


def verdict_grids(comparison: Comparison) -> tuple[list[Grid], list[Column]]:
    """Give the grids of every judge, and their columns for the legend, each header once."""
    grids, columns = list[Grid](), dict[str, Column]()
    for scorer in in_order(filter(judged, comparison.scorers)):
        name = heading(comparison, scorer).removeprefix("win rate by ")
        rows = [r for r in comparison.results if scorer in r.verdicts and not _itself(r, scorer)]
        if not rows:
            continue
        known = [r for r in rows if scorer in r.trust]
        found = [(f"Verdicts by {name}", verdict_columns(scorer), rows)]
        if known:
            source = known[0].trust[scorer].source
            found.append((f"Can {name} be believed", trust_columns(scorer, source), known))
        for title, made, shown in found:
            columns |= {c.header: c for c in made if c.header not in columns}
            cells = tuple(tuple(c.cell(r) for c in made) for r in shown)
            grids.append(Grid(title, tuple(c.header for c in made), cells))
    return grids, list(columns.values())


def citations(scorers: Sequence[str], protocol: str, known: Calibrations) -> Notes | None:
    """Say of every judge how far it was held against labels, and in which file that stands."""
    lines = []
    for scorer in in_order(filter(judged, scorers)):
        judge = judge_of(scorer)
        if judge in known:
            said = "; ".join(map(_cited, known[judge]["sets"]))
            file = code(f"calibration/{protocol}/{judge}.json")
            lines.append(line(f"{judge}: {said} (", file, ")"))
        else:
            make = code(f"make calibrate JUDGE={judge.partition('@')[0]} PROTOCOL={protocol}")
            lines.append(line(f"{judge}: never held against labels; ", make, " does it"))
    return Notes("How far the judges can be trusted", tuple(lines)) if lines else None


def against_truth(comparisons: Sequence[Comparison]) -> Notes | None:
    """Count over all tables for how many rows an interval holds the truth's win rate."""
    lines = []
    scorers = {scorer for c in comparisons for r in c.results for scorer in r.trust}
    for scorer in in_order(scorers):
        known = [(r.means[scorer], r.trust[scorer]) for c in comparisons for r in c.results
                 if scorer in r.trust and scorer in r.means]  # fmt: skip
        made = [(t.corrected.rate, t.truth) for _, t in known if t.corrected]
        own = sum(_holds(rate, t.truth) for rate, t in known)
        right = sum(_holds(rate, truth) for rate, truth in made)
        by = "gold" if all(t.source == TRUTH for _, t in known) else "people or gold"
        said = f"the judge's own interval holds the win rate by {by} in {own} of {len(known)} rows"
        if made:
            said += f", the corrected one in {right} of {len(made)}"
        lines.append(line(f"{judge_of(scorer)}: {said}"))
    return Notes("Win rates beside the truth", tuple(lines)) if lines else None


def _holds(interval: Estimate, truth: Estimate) -> bool:
    return interval.low <= truth.value <= interval.high


def _itself(result: Result, scorer: str) -> bool:
    """Say whether a row is what the judge compares with: even with itself by definition."""
    return result.row.label == REFERENCE and is_opponent(result.row, scorer)


def _cited(one: Mapping[str, Json]) -> str:
    share = one["agreement"]
    text = (
        f"agrees with {one['labels']} on {_percent(share['value'])} of {share['n']} {one['name']}"
    )
    if one.get("kappa") is not None:
        text += f", kappa {one['kappa']:.2f}"
    if one["flips"]["n"]:
        text += f", flips on {_percent(one['flips']['value'])}"
    return text


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


def _unread(result: Result, scorer: str) -> str:
    counts = result.row.outcomes(scorer)
    return ", ".join(f"{counts[kind]} {kind}" for kind in UNREAD if counts[kind]) or "0"


def _bounds(result: Result, scorer: str) -> str:
    found = result.verdicts[scorer]
    if _unread(result, scorer) == "0":
        return NONE
    return f"{number(found.bound_low, PLACES)} to {number(found.bound_high, PLACES)}"


def _p(result: Result, scorer: str) -> str:
    p = result.verdicts[scorer].p
    if math.isnan(p):
        return NONE
    return "≤ 0.0001" if p <= 1e-4 else number(p, 4)
