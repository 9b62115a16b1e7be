"""Every stack of a few methods on a benchmark: what stacking brings over the better part.

For a stack s of parts p over the base model u, prompt by prompt on the same prompts:

    gain         s - p*, p* the part with the best mean on this benchmark
    interaction  s - sum of p + (parts - 1) u: nought where the parts' effects add up
    order        a+b - b+a

p* is chosen on the same answers, which can only make a gain look smaller than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.errors import PlumblineError
from harness.report.columns import decimals, spread
from harness.report.comparison import choose_headline, judged
from harness.report.frames import REFERENCE, Cell, Row
from harness.report.simultaneous import Family
from harness.report.statistics import (
    Array,
    Contrast,
    Estimate,
    identity_seed,
    mean_over_rows,
    replicated,
)

RESAMPLES = 20_000

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Crossed:
    """Which stacks there are.

    parts     part's label -> its kind, in the order a stack applies them.
    stacks    labels of parts -> the stack's label.
    reversed  the same for pairs in the other order, where that can differ.
    refused   labels of parts -> why they cannot be put together.
    skipped   part's label -> why it does not apply.
    """

    protocol: str
    hash: str
    parts: Mapping[str, str]
    stacks: Mapping[Labels, str]
    reversed: Mapping[Labels, str] = field(default_factory=dict)
    refused: Mapping[Labels, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Stacked:
    """One stack on one benchmark; intervals hold for all stacks and benchmarks at once.

    better  the best of its parts.
    order   a+b less b+a; None where nothing was run the other way round.
    """

    parts: Labels
    label: str
    score: Estimate
    better: str
    gain: Estimate
    interaction: Estimate
    order: Estimate | None = None
    back: Estimate | None = None


@dataclass(frozen=True)
class Matrix:
    """All stacks of one benchmark.

    scores   part's label (the reference's too) -> its mean.
    over     part's label -> what it gains over the reference.
    missing  labels of parts whose stack was to be run and has no finished run.
    """

    cell: Cell
    metric: str
    scores: Mapping[str, Estimate]
    over: Mapping[str, Estimate]
    stacks: tuple[Stacked, ...]
    missing: tuple[Labels, ...] = ()


def matrices(
    cells: Sequence[Cell], crossed: Crossed, *, resamples: int = RESAMPLES
) -> tuple[list[Matrix], list[str]]:
    """Compute every benchmark's matrix; give those that can be, and why others cannot."""
    found, faults = [], []
    families = {name: list[Family]() for name in ("over", "gain", "interaction", "order")}
    for cell in cells:
        own = {name: Family() for name in families}
        try:
            found.append(_matrix(cell, crossed, own, resamples))
        except PlumblineError as error:
            faults.append(str(error))
            continue
        for name, family in own.items():
            families[name].append(family)
    whole = {name: Family.joined(each) for name, each in families.items()}
    for one in found:
        for stack in one.stacks:
            stack.gain = whole["gain"].interval(stack.gain)
            stack.interaction = whole["interaction"].interval(stack.interaction)
            if stack.order is not None:
                stack.order = whole["order"].interval(stack.order)
    over = whole["over"]
    return [
        replace(one, over={part: over.interval(e) for part, e in one.over.items()}) for one in found
    ], faults


def _matrix(cell: Cell, crossed: Crossed, families: Mapping[str, Family], resamples: int) -> Matrix:
    rows = {row.label: row for row in cell.rows if row.runs}
    gone = [name for name in (REFERENCE, *crossed.parts) if name not in rows]
    if gone:
        raise PlumblineError(f"{cell.benchmark}: {gone[0]} has no finished run, so no matrix")
    if len({row.items for row in rows.values()}) > 1:
        raise PlumblineError(f"{cell.benchmark}: the rows of the matrix answered different items")
    metric = choose_headline(cell)
    if not metric:
        raise PlumblineError(f"{cell.benchmark}: the rows of the matrix share no headline")
    values = {label: _values(row, metric) for label, row in rows.items()}
    means = {label: float(np.nanmean(mean_over_rows(v))) for label, v in values.items()}
    stacks = {labels: s for labels, s in crossed.stacks.items() if s in rows}
    better = {labels: max(labels, key=lambda p: means[p]) for labels in stacks}
    back = {labels: crossed.reversed.get(labels[::-1], "") for labels in stacks}
    contrasts: dict[tuple[str, str | Labels], Contrast] = {
        ("score", label): Contrast(v) for label, v in values.items()
    }
    for part in crossed.parts:
        contrasts["over", part] = Contrast(values[part], values[REFERENCE])
    for labels, stack in stacks.items():
        contrasts["gain", labels] = Contrast(values[stack], values[better[labels]])
        contrasts["interaction", labels] = _interaction(labels, stack, values)
        if back[labels] in rows:
            contrasts["order", labels] = Contrast(values[stack], values[back[labels]])
    made = replicated(
        list(contrasts.values()),
        rows[REFERENCE].clusters,
        seed=identity_seed("matrix", *sorted(rows[REFERENCE].clusters)),
        resamples=resamples,
    )
    known: dict[tuple[str, str | Labels], Estimate] = {}
    for (what, name), (estimate, replicates) in zip(contrasts, made, strict=True):
        known[what, name] = estimate
        if what in families:
            families[what].add(estimate, replicates)
    return Matrix(
        cell,
        metric,
        {label: known["score", label] for label in (REFERENCE, *crossed.parts)},
        {part: known["over", part] for part in crossed.parts},
        tuple(
            Stacked(
                labels,
                stack,
                known["score", stack],
                better[labels],
                known["gain", labels],
                known["interaction", labels],
                known.get(("order", labels)),
                known.get(("score", back[labels])),
            )
            for labels, stack in stacks.items()
        ),
        tuple(labels for labels, stack in crossed.stacks.items() if stack not in rows),
    )


def _values(row: Row, metric: str) -> Array:
    """Give [fits, keys]; a reference without verdicts is even with itself."""
    if metric not in row.scorers and judged(metric):
        return np.full((1, len(row.answered)), 0.5)
    return row.values(metric)


def _interaction(labels: Labels, stack: str, values: Mapping[str, Array]) -> Contrast:
    """Hold a stack, and the base as often as it is counted twice, against the sum of its parts.

    Fits are averaged first: four rows with fits of their own have no common outer level.
    """
    base = (len(labels) - 1) * mean_over_rows(values[REFERENCE])
    whole = mean_over_rows(values[stack]) + base
    alone = np.sum([mean_over_rows(values[part]) for part in labels], axis=0)
    return Contrast(whole[None], alone[None])


def words(estimate: Estimate, others: Sequence[Estimate]) -> str:
    """Print an estimate with as many decimals as the others need."""
    return spread(estimate, decimals([*others, estimate]), signed=True)


def sentences(found: Sequence[Matrix]) -> list[str]:
    """Say every stack in a line."""
    out = []
    for one in found:
        for stack in one.stacks:
            order = (
                f"; the other way round {words(negative(stack.order), [])}" if stack.order else ""
            )
            out.append(
                f"{one.cell.benchmark}  {stack.label}  {one.metric} "
                f"{spread(stack.score, decimals([stack.score]))}  "
                f"{words(stack.gain, [])} over {stack.better}; "
                f"interaction {words(stack.interaction, [])}{order}"
            )
    return out


def negative(e: Estimate) -> Estimate:
    """Turn a difference round."""
    return replace(e, value=0.0 - e.value, low=0.0 - e.high, high=0.0 - e.low)


def known(e: Estimate | None) -> bool:
    """Say whether there is a value at all."""
    return e is not None and not math.isnan(e.value)
