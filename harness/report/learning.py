"""Learning curves: scores against the number of pairs, and where two methods change places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.conduct import store
from harness.errors import PlumblineError
from harness.report.comparison import is_optimised, judged
from harness.report.figures import folded, legible, on_paper, save
from harness.report.frames import REFERENCE, Cell, Row
from harness.report.markup import to_csv
from harness.report.resampling import RESAMPLES
from harness.report.statistics import (
    Array,
    Contrast,
    Estimate,
    identity_seed,
    replicated,
)

WANTED = ("gold", "reward", "win_rate")  # whichever the benchmark has, any judge's win rate
SEEN = 0.5  # share of resamples that must show a crossing before its interval is given


@dataclass(frozen=True)
class Points:
    """One metric of one method.

    pairs       how many pairs each fit was given, rising; empty for a method that learns from
                none, which is one value at any number of pairs.
    estimates   one per number of pairs.
    replicates  [numbers, resamples], drawn with the other methods'.
    """

    pairs: tuple[int, ...]
    labels: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    replicates: Array

    def at(self, pairs: Sequence[int]) -> tuple[Array, Array]:
        """Give values and replicates at these numbers: [k], [k, resamples]."""
        where = [self.pairs.index(n) for n in pairs] if self.pairs else [0] * len(pairs)
        return np.array([self.estimates[i].value for i in where]), self.replicates[where]


@dataclass(frozen=True)
class Crossing:
    """Where the first method overtakes the second, or falls behind it.

    pairs      the number of pairs, on a logarithmic scale between two that were run; NaN where
               the first order stays.
    low, high  95 % interval; NaN where fewer than half of the resamples cross.
    share      of the resamples that cross.
    ahead      the method that is ahead from there on, or all along.
    """

    first: str
    second: str
    metric: str
    pairs: float
    low: float
    high: float
    share: float
    ahead: str


@dataclass(frozen=True)
class Learning:
    """All curves of one benchmark: metric -> method -> points, and the reference's own value."""

    cell: Cell
    points: Mapping[str, Mapping[str, Points]]
    reference: Mapping[str, Estimate]
    crossings: tuple[Crossing, ...]


def learning(
    cell: Cell,
    methods: Mapping[str, Mapping[int, str]],
    *,
    resamples: int = RESAMPLES,
) -> Learning:
    """Read a benchmark's rows as curves.

    methods  name -> number of pairs -> row's label; the number is 0 for a method that learns
             from none.

    Raises PlumblineError where a row was not run, or rows answered different items.
    """
    rows = {row.label: row for row in cell.rows if row.runs}
    labels = [label for one in methods.values() for label in one.values()]
    missing = [label for label in labels if label not in rows]
    if missing:
        raise PlumblineError(f"{cell.benchmark}: {missing[0]} has no finished run")
    chosen = [rows[label] for label in labels]
    base = rows.get(REFERENCE)
    if base is not None:
        chosen.append(base)
    if len({row.items for row in chosen}) > 1:
        raise PlumblineError(f"{cell.benchmark}: the curve's rows answered different items")
    metrics = _metrics([row for row in chosen if row is not base])
    if not metrics:
        raise PlumblineError(
            f"{cell.benchmark}: the rows share no score to draw ({', '.join(WANTED)})"
        )
    contrasts = [
        Contrast(row.values(metric))
        for metric in metrics
        for row in chosen
        if metric in row.scorers
    ]
    made = iter(
        replicated(
            contrasts,
            chosen[0].clusters,
            seed=identity_seed("learning", *sorted(chosen[0].clusters)),
            resamples=resamples,
        )
    )
    found: dict[str, dict[str, tuple[Estimate, Array]]] = {
        metric: {row.label: next(made) for row in chosen if metric in row.scorers}
        for metric in metrics
    }
    points = {
        metric: {name: _points(of, found[metric]) for name, of in methods.items()}
        for metric in metrics
    }
    reference = {
        metric: Estimate(0.5) if judged(metric) else found[metric][REFERENCE][0]
        for metric in metrics
        if judged(metric) or REFERENCE in found[metric]
    }
    return Learning(cell, points, reference, tuple(_crossings(points)))


def _metrics(rows: Sequence[Row]) -> list[str]:
    shared = set.intersection(*(row.scorers for row in rows))
    return [s for wanted in WANTED for s in sorted(shared) if s.split("@")[0] == wanted]


def _points(of: Mapping[int, str], found: Mapping[str, tuple[Estimate, Array]]) -> Points:
    numbers = sorted(of)
    labels = tuple(of[n] for n in numbers)
    return Points(
        tuple(numbers) if numbers != [0] else (),
        labels,
        tuple(found[label][0] for label in labels),
        np.stack([found[label][1] for label in labels]),
    )


def _crossings(points: Mapping[str, Mapping[str, Points]]) -> list[Crossing]:
    found = []
    for metric, methods in points.items():
        names = list(methods)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                one = crossing(first, methods[first], second, methods[second], metric)
                if one is not None:
                    found.append(one)
    return found


def crossing(first: str, a: Points, second: str, b: Points, metric: str) -> Crossing | None:
    """Estimate where two curves cross; None where they share fewer than two numbers of pairs."""
    shared = [n for n in (a.pairs or b.pairs) if n in (b.pairs or a.pairs)]
    if len(shared) < 2:
        return None
    at = np.log(np.array(shared, dtype=float))
    (mine, my_draws), (theirs, their_draws) = a.at(shared), b.at(shared)
    where = first_crossing(at, (mine - theirs)[:, None])[0]
    drawn = first_crossing(at, my_draws - their_draws)
    share = float((~np.isnan(drawn)).mean())
    low, high = math.nan, math.nan
    if share >= SEEN:
        low, high = np.exp(np.nanquantile(drawn, [0.025, 0.975])).tolist()
    ahead = first if (mine - theirs)[-1] > 0 else second
    return Crossing(first, second, metric, float(np.exp(where)), low, high, share, ahead)


def first_crossing(at: Array, difference: Array) -> Array:
    """Give where each column first changes sign, between two points by a straight line.

    at          [k], rising.
    difference  [k, columns].

    Returns [columns], NaN where the sign stays.
    """
    out = np.full(difference.shape[1], np.nan)
    for i in range(len(at) - 1, 0, -1):  # backwards, so that the first one stays
        left, right = difference[i - 1], difference[i]
        changes = (left < 0) & (right > 0) | (left > 0) & (right < 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            place = at[i - 1] + (at[i] - at[i - 1]) * left / (left - right)
        out = np.where(changes, place, out)
    return out


# ---------------------------------------------------------------- what is written


def sentence(one: Crossing) -> str:
    """Say in a line where two methods change places."""
    if math.isnan(one.pairs):
        return (
            f"{one.metric}: {one.ahead} is ahead of "
            f"{one.second if one.ahead == one.first else one.first} at most numbers of pairs run; "
            f"{one.share:.0%} of resamples cross"
        )
    spread = "" if math.isnan(one.low) else f" [{one.low:.0f}, {one.high:.0f}]"
    return (
        f"{one.metric}: {one.first} and {one.second} change places at {one.pairs:.0f}{spread} "
        f"pairs ({one.share:.0%} of resamples cross); {one.ahead} is ahead with more"
    )


def write(found: Learning, out: Path) -> list[Path]:
    """Write the CSV, the crossings' CSV and the figure; the PNG last."""
    out = out.with_name(out.name + "." + found.cell.benchmark)
    store.write_text(out.with_name(out.name + ".csv"), to_csv(_records(found)))
    written = [out.with_name(out.name + ".csv")]
    if found.crossings:
        path = out.with_name(out.name + ".crossings.csv")
        store.write_text(path, to_csv([vars(one) for one in found.crossings]))
        written.append(path)
    png, svg = _draw(found, out)
    return [*written, svg, png]


def _records(found: Learning) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    for metric, methods in found.points.items():
        base = found.reference.get(metric)
        for name, points in methods.items():
            for i, estimate in enumerate(points.estimates):
                lines.append(
                    {
                        "benchmark": found.cell.benchmark,
                        "metric": metric,
                        "method": name,
                        "row": points.labels[i],
                        "pairs": points.pairs[i] if points.pairs else "",
                        "value": estimate.value,
                        "low": estimate.low,
                        "high": estimate.high,
                        "unsteered": base.value if base else "",
                        "n": estimate.n,
                    }
                )
    return lines


def _draw(found: Learning, stem: Path) -> list[Path]:
    with on_paper():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.6 * len(found.points), 3.3), layout="constrained")
        panels = figure.subplots(1, len(found.points), squeeze=False)[0]
        for panel, (metric, methods) in zip(panels, found.points.items(), strict=True):
            granted = " (optimised)" if is_optimised(found.cell, metric) else ""
            panel.set_title(legible(metric + granted), loc="left", fontsize=10)
            if metric in found.reference:
                panel.axhline(found.reference[metric].value, color="#1b1b1b", lw=0.8, ls="--")
            for i, (name, points) in enumerate(methods.items()):
                _line(panel, points, f"C{i}", folded(legible(name)))
            numbers = sorted({n for points in methods.values() for n in points.pairs})
            if numbers:
                panel.set_xscale("log")
                panel.set_xticks(numbers, [str(n) for n in numbers])
                panel.minorticks_off()
            panel.set_xlabel("pairs")
            panel.grid(color="#e6e6e6", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        panels[-1].legend(frameon=False, fontsize=8)
        title = legible(str(found.cell.spec.get("title") or found.cell.benchmark))
        figure.suptitle(f"{title}: what more pairs bring (dashed: {REFERENCE})", size=10)
        return save(figure, stem)


def _line(panel: Any, points: Points, colour: str, label: str) -> None:
    low = [e.low for e in points.estimates]
    high = [e.high for e in points.estimates]
    values = [e.value for e in points.estimates]
    if not points.pairs:
        panel.axhline(values[0], color=colour, lw=1.2, label=label)
        panel.axhspan(low[0], high[0], color=colour, alpha=0.1, lw=0)
        return
    panel.plot(points.pairs, values, "o-", color=colour, markersize=3.5, label=label)
    panel.fill_between(points.pairs, low, high, color=colour, alpha=0.18, lw=0)
