"""What each column of a benchmark's table says, and how a number is printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.report.comparison import (
    Comparison,
    Result,
    is_optimised,
    judged,
    objective,
    trials,
)
from harness.report.cost.costs import Cost, seconds_ratio, tokens_ratio
from harness.report.improvement import aligned_row, gap_closed
from harness.report.markup import Line, bold, line
from harness.report.statistics import Estimate

NONE = "–"
EVEN = "≈"  # after an interval that includes no difference
MARKS = {"transductive": "†", "limited": "‡", "ceiling": "§", "control": "∘", "external": "↗"}
FIRST = ("reward", "optimised_reward", "gold", "win_rate", "diversity", "coherence")


@dataclass(frozen=True)
class Column:
    """A header, what stands in its cells, and the sentence the legend gives it."""

    header: str
    cell: Callable[[Result], Line]
    legend: str


# ------------------------------------------------------------------ numbers


def decimals(estimates: Iterable[Estimate]) -> int:
    """Find how many decimals show two digits of a typical half-width."""
    widths = sorted((e.high - e.low) / 2 for e in estimates if e.high > e.low)
    if not widths:
        return 3
    return min(4, max(0, 1 - math.floor(math.log10(widths[len(widths) // 2]))))


def number(value: float, places: int, signed: bool = False) -> str:
    """Print a number with a true minus sign; a dash where there is none."""
    if math.isnan(value):
        return NONE
    text = f"{value:{'+' if signed else ''}.{places}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")  # a rounded zero has no sign
    return text.replace("-", "−")


def spread(estimate: Estimate, places: int, signed: bool = False) -> str:
    """Print a value and, where there is one, its interval in brackets.

    A bound beside zero gets the decimals it needs not to read as zero.
    """
    if math.isnan(estimate.low):
        return number(estimate.value, places, signed)
    while estimate.excludes_zero and places < 6 and _reads_zero(estimate, places):
        places += 1
    value = number(estimate.value, places, signed)
    low, high = (number(bound, places, signed) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _reads_zero(estimate: Estimate, places: int) -> bool:
    return any(round(bound, places) == 0 for bound in (estimate.low, estimate.high))


def plus_minus(estimate: Estimate, places: int) -> str:
    """Print a value and half the width of its interval."""
    value = number(estimate.value, places)
    if math.isnan(estimate.low):
        return value
    return f"{value} ± {number((estimate.high - estimate.low) / 2, places)}"


def times(ratio: float) -> str:
    """Print a ratio of costs."""
    return NONE if math.isnan(ratio) else f"{ratio:.{1 if ratio < 9.95 else 0}f}×"


def places_of(rank: tuple[int, int] | None) -> str:
    """Print the places a row may hold."""
    if rank is None:
        return NONE
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


# -------------------------------------------------------------------- names


def heading(comparison: Comparison, scorer: str) -> str:
    """Name a scorer as a column does; judge and encoder are named with it."""
    name, _, by = scorer.partition("@")
    if is_optimised(comparison.cell, scorer):
        return "optimised reward"
    if name == "coherence":
        by = by or str(comparison.spec.get("encoder") or "")
    title = name.replace("_", " ")
    return f"{title} by {by}" if by else title


def in_order(scorers: Iterable[str]) -> list[str]:
    """Order scorers: the common ones first, then by name."""
    known = {name: i for i, name in enumerate(FIRST)}
    return sorted(scorers, key=lambda s: (known.get(s.split("@")[0], len(FIRST)), s))


def labelled(result: Result) -> Line:
    """Give a row's label with its marks."""
    marks = "".join(MARKS[mark] for mark in result.row.marks if mark in MARKS)
    return line(f"{result.row.label} {marks}" if marks else result.row.label)


def difference_cell(result: Result, places: int) -> Line:
    """Give the difference, bold where its interval leaves zero out, or why there is none.

    The interval is the family's; one that includes zero is marked.  Why a row was skipped
    takes a sentence: it stands below the grid.
    """
    if not result.row.runs:
        return line("skipped")
    if result.why:
        return line(result.why)
    found = result.joint
    if found is None:
        return line(NONE)
    text = spread(found, places, signed=True)
    if found.excludes_zero:
        return line(bold(text))
    return line(text if math.isnan(found.low) else f"{text} {EVEN}")


def joint_legend(count: int) -> str:
    """Say what the interval of a difference holds for."""
    if count < 2:
        return "to unsteered, prompt by prompt; bold where the interval leaves zero out"
    return (
        "to unsteered, prompt by prompt; bold where the interval leaves zero out. The intervals "
        f"are wide enough to hold for all {count} differences (rows × benchmarks, each on its "
        "headline) at once, 95 times in 100"
    )


def tuning(result: Result) -> str:
    """Say how many trials chose the settings, and what they optimised."""
    if not result.row.runs:
        return NONE
    count, aim = trials(result.row), objective(result.row)
    if not count:
        return "none"
    where = " in its fit" if (result.row.spec.get("tuning") or {}).get("fit") else ""
    return f"{count}{where} on {aim}" if aim else f"{count}{where}"


def fits(result: Result) -> str:
    """Say how many fits a row rests on."""
    count = result.row.fits
    return {0: NONE, 1: "one fit"}.get(count, f"{count} fits")


def kl(result: Result, places: int) -> str:
    """Give the divergence from the base model: exact, a bound, or a dash."""
    kinds = [run.spec.get("kl") or {} for run in result.row.runs]
    if any(k.get("kind") == "exact-per-step" for k in kinds) and "kl" in result.means:
        return plus_minus(result.means["kl"], places)
    bounds = [k["bound"] for k in kinds if k.get("kind") == "bound" and k.get("bound") is not None]
    return f"≤ {number(max(bounds), 2)} (bound)" if bounds else NONE


def not_ok(result: Result) -> str:
    """Count the outcomes other than "ok" over all scorers, by kind."""
    counts: dict[str, int] = {}
    for scorer in sorted({s for run in result.row.runs for s in run.scores}):
        for outcome, n in sorted(result.row.outcomes(scorer).items()):
            if outcome != "ok":
                counts[outcome] = counts.get(outcome, 0) + n
    return ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) or "0"


# ------------------------------------------------------------------ columns


def main_columns(comparison: Comparison) -> list[Column]:
    """Give the columns a reader needs first."""
    shown = [r for r in comparison.results if r.row.runs]
    reference = comparison.reference
    floor = reference.cost if reference else Cost()
    name = heading(comparison, comparison.headline) if comparison.headline else ""
    columns = [Column("method", labelled, "")]
    if comparison.headline:
        first = decimals(r.headline for r in shown)
        second = decimals(r.joint for r in shown if r.joint)
        columns += [
            Column(
                name,
                lambda r: line(spread(r.headline, first) if r.row.runs else NONE),
                "mean over prompts; in brackets its 95 % interval, from resampling whole "
                f"clusters ({comparison.spec.get('cluster') or 'prompt'}) 20,000 times",
            ),
            Column(
                "difference",
                lambda r: difference_cell(r, second),
                joint_legend(comparison.joint),
            ),
            Column(
                "detectable",
                lambda r: line(
                    number(r.difference.detectable, second)
                    if r.difference and not r.why and not math.isnan(r.difference.low)
                    else NONE
                ),
                "the smallest true difference that a single comparison this size finds four "
                "times in five",
            ),
            Column(
                f"rank of {comparison.ranked}",
                lambda r: line(places_of(r.rank)),
                "the places a row may hold, from the paired differences between all rows, right "
                "for all rows at once 95 times in 100; rows with a place in common are not told "
                "apart",
            ),
        ]
    else:
        columns.append(Column("", lambda r: line("" if r.row.runs else "skipped"), ""))
    if any(r.row.fits for r in shown):
        legend = (
            "what was learned was learned this many times; with three or more fits, "
            "intervals include the spread between fits, with fewer they do not"
        )
        columns.append(Column("fits", lambda r: line(fits(r)), legend))
    columns += [
        Column(
            "tokens",
            lambda r: line(times(tokens_ratio(r.cost, floor))),
            "tokens computed for one answer by all models together, relative to unsteered",
        ),
        Column(
            "seconds",
            lambda r: line(times(seconds_ratio(r.cost, floor))),
            "time for one answer relative to unsteered, in the batches and on the device of "
            "this run",
        ),
        Column(
            "tuning",
            lambda r: line(tuning(r)),
            "evaluations on development prompts that its settings were chosen by, in tuning "
            "or while it was fitted, and what they optimised",
        ),
    ]
    return columns


def further_columns(comparison: Comparison) -> list[Column]:
    """Give the other measurements."""
    shown = [r for r in comparison.results if r.row.runs]
    columns = [Column("method", labelled, "")]
    others = [
        s
        for s in in_order(comparison.scorers)
        if s not in (comparison.headline, "kl") and not judged(s)
    ]
    columns += [_scorer_column(comparison, scorer) for scorer in others]
    columns += [_gap_column(comparison, measure) for measure in _gaps(comparison)]
    places = decimals(r.means["kl"] for r in shown if "kl" in r.means)
    columns += [
        Column(
            "KL",
            lambda r: line(kl(r, places)),
            "divergence from the unsteered model in nats: exact per step, summed along the "
            'answer, or an upper bound ("≤")',
        ),
        Column(
            "items",
            lambda r: line(str(len(r.row.answered)) if r.row.runs else NONE),
            "answers asked for, over all turns of all prompts",
        ),
    ]
    if any(len(r.row.runs) > 1 for r in shown):
        legend = "runs with different seeds, averaged within each prompt"
        columns.append(Column("runs", lambda r: line(str(len(r.row.runs))), legend))
    legend = (
        "scores that are no plain reading, over all scorers and runs, by kind; "
        "those without a value enter no mean"
    )
    return [*columns, Column("not ok", lambda r: line(not_ok(r) if r.row.runs else NONE), legend)]


def _gaps(comparison: Comparison) -> list[str]:
    aligned = aligned_row(comparison)
    return list(gap_closed(aligned, comparison)) if aligned else []


def _gap_column(comparison: Comparison, measure: str) -> Column:
    def cell(result: Result) -> Line:
        share = gap_closed(result, comparison).get(measure)
        return line(NONE if share is None else f"{number(share, 0)} %")

    of = "net win rate" if judged(measure) else "difference"
    legend = (
        f"Relative Improvement: a row's {of} as a share of the aligned model's; "
        "none where the aligned model does not gain"
    )
    return Column(f"gap closed ({heading(comparison, measure)})", cell, legend)


def _scorer_column(comparison: Comparison, scorer: str) -> Column:
    found = [r.means[scorer] for r in comparison.results if scorer in r.means]
    places = decimals(found)
    legend = ""
    if is_optimised(comparison.cell, scorer):
        legend = "the reward that methods were granted; what they gain on it proves little"

    def cell(result: Result) -> Line:
        estimate = result.means.get(scorer)
        return line(NONE if estimate is None else plus_minus(estimate, places))

    return Column(heading(comparison, scorer), cell, legend)
