"""A method at many strengths: scores against KL and against compute, read at equal KL.

KL is the row's own: exact where the method has a density, an upper bound where it chooses
among candidates.  Between two strengths a score is read off a straight line in KL; where no
strength reaches a KL, there is nothing to read and the table says so.
"""

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
from harness.report.cost.costs import cost_of
from harness.report.figures import legible, on_paper, save
from harness.report.frames import REFERENCE, Cell, Row
from harness.report.law import Law, Readings, law
from harness.report.markup import to_csv
from harness.report.resampling import RESAMPLES
from harness.report.statistics import (
    Array,
    Contrast,
    Estimate,
    identity_seed,
    interval,
    replicated,
)

WANTED = ("gold", "reward", "win_rate")  # whichever the benchmark has, any judge's win rate
AT_KL = (2.0, 4.0, 8.0)  # nats


@dataclass(frozen=True)
class Point:
    """One strength.

    kl      nats; kind says whether it is measured or a bound, "none" where it is not known.
    tokens  through all models, for one answer.
    """

    strength: float
    label: str
    scores: Mapping[str, Estimate]
    kl: Estimate
    kind: str
    tokens: float


@dataclass(frozen=True)
class AtKl:
    """A score read at a KL; NaN where no strength reaches it."""

    metric: str
    kl: float
    estimate: Estimate


@dataclass(frozen=True)
class Sweep:
    """Every point of one benchmark, in order of strength, and what is read off them."""

    cell: Cell
    knob: str
    metrics: tuple[str, ...]
    points: tuple[Point, ...]
    at_kl: tuple[AtKl, ...]
    readings: Readings | None
    law: Law | None
    why: str = ""


def sweep(
    cell: Cell,
    knob: str,
    labels: Mapping[float, str],
    readings: Readings | None = None,
    *,
    resamples: int = RESAMPLES,
) -> Sweep:
    """Read a benchmark's rows as one sweep.

    labels  strength -> row's label.

    Raises PlumblineError where a row was not run or rows answered different items.
    """
    rows = {row.label: row for row in cell.rows if row.runs}
    missing = [label for label in labels.values() if label not in rows]
    if missing:
        raise PlumblineError(f"{cell.benchmark}: {missing[0]} has no finished run")
    chosen = {strength: rows[label] for strength, label in sorted(labels.items())}
    if len({row.items for row in chosen.values()}) > 1:
        raise PlumblineError(f"{cell.benchmark}: the sweep's rows answered different items")
    shared = set.intersection(*(row.scorers for row in chosen.values()))
    metrics = tuple(s for w in WANTED for s in sorted(shared) if s.split("@")[0] == w)
    first = next(iter(chosen.values()))
    asked = [
        (row, metric) for row in chosen.values() for metric in (*metrics, "kl")
        if metric in row.scorers
    ]  # fmt: skip
    made = replicated(
        [Contrast(row.values(metric)) for row, metric in asked],
        first.clusters,
        seed=identity_seed("sweep", *sorted(first.clusters)),
        resamples=resamples,
    )
    found = {(row.label, metric): one for (row, metric), one in zip(asked, made, strict=True)}
    points = tuple(_point(s, row, metrics, found) for s, row in chosen.items())
    fitted, why = None, ""
    if readings is not None:
        try:
            fitted = law(readings)
        except PlumblineError as error:
            why = str(error)
    at = tuple(_at(metric, kl, points, found) for metric in metrics for kl in AT_KL)
    return Sweep(cell, knob, metrics, points, at, readings, fitted, why)


Found = Mapping[tuple[str, str], tuple[Estimate, Array]]


def _point(strength: float, row: Row, metrics: Sequence[str], found: Found) -> Point:
    said = row.spec.get("kl") or {}
    kind = str(said.get("kind", "none"))
    kl = Estimate(math.nan)
    if (row.label, "kl") in found:
        kl = found[row.label, "kl"][0]
    elif kind == "bound":
        kl = Estimate(float(said["bound"]))
    else:
        kind = "none"
    scores = {metric: found[row.label, metric][0] for metric in metrics}
    return Point(strength, row.label, scores, kl, kind, cost_of(row).total)


def _at(metric: str, kl: float, points: Sequence[Point], found: Found) -> AtKl:
    """Read a score at a KL, in the estimate and in every resample."""
    known = [p for p in points if not math.isnan(p.kl.value)]
    if len(known) < 2:
        return AtKl(metric, kl, Estimate(math.nan))
    x = np.array([p.kl.value for p in known])
    y = np.array([p.scores[metric].value for p in known])
    value = read_at(x[:, None], y[:, None], kl)[0]
    if math.isnan(value):
        return AtKl(metric, kl, Estimate(math.nan))
    draws = np.stack([found[p.label, metric][1] for p in known])
    moved = np.stack(
        [
            found[p.label, "kl"][1] if (p.label, "kl") in found
            else np.full(draws.shape[1], p.kl.value)
            for p in known
        ]
    )  # fmt: skip
    drawn = read_at(moved, draws, kl)
    clusters = known[0].scores[metric].clusters
    low, high = interval(drawn, clusters) if np.isfinite(drawn).mean() > 0.5 else (math.nan,) * 2
    return AtKl(metric, kl, Estimate(float(value), low, high, n=known[0].scores[metric].n))


def read_at(x: Array, y: Array, at: float) -> Array:
    """Give y where x first reaches ``at``, by straight lines in order of the points.

    x, y  [points, columns]; NaN for a column that does not reach it.
    """
    out = np.full(x.shape[1], np.nan)
    for i in range(len(x) - 1, 0, -1):  # backwards, so that the first place stays
        left, right = x[i - 1], x[i]
        within = (left <= at) & (at <= right) & (right > left)
        with np.errstate(invalid="ignore", divide="ignore"):
            place = y[i - 1] + (y[i] - y[i - 1]) * (at - left) / (right - left)
        out = np.where(within, place, out)
    return out


# ---------------------------------------------------------------- what is written


def sentences(found: Sweep) -> list[str]:
    """Say in lines what is read at equal KL, where optimisation goes too far, and the law."""
    lines = []
    for one in found.at_kl:
        if not math.isnan(one.estimate.value):
            e = one.estimate
            spread = "" if math.isnan(e.low) else f" [{e.low:.3f}, {e.high:.3f}]"
            lines.append(f"{one.metric} at {one.kl:g} nats: {e.value:.3f}{spread}")
    if {"gold", "reward"} <= set(found.metrics):
        best = max(found.points, key=lambda p: p.scores["gold"].value)
        beyond = [p for p in found.points if p.strength > best.strength]
        worse = [p for p in beyond if p.scores["reward"].value > best.scores["reward"].value]
        if worse:
            lines.append(
                f"over-optimised beyond {found.knob}={best.strength:g}: at {worse[-1].strength:g} "
                f"reward {worse[-1].scores['reward'].value:.3f} against "
                f"{best.scores['reward'].value:.3f}, gold {worse[-1].scores['gold'].value:.3f} "
                f"against {best.scores['gold'].value:.3f}"
            )
    if found.law is not None:
        fitted = found.law
        sides = "both sides of 0" if fitted.two_sided else "one side of 0"
        lines.append(
            f"law {'holds' if fitted.holds else 'not confirmed'} up to {fitted.window:g} "
            f"({fitted.points} strengths, {sides}): n_A {fitted.n_a}, n_H {fitted.n_h}, "
            f"a1 {fitted.slope}, h2 {fitted.curvature}; least left-out error: A {fitted.best_a}, "
            f"H {fitted.best_h}"
        )
    elif found.why:
        lines.append(f"no law is fitted: {found.why}")
    return lines


def write(found: Sweep, stem: Path) -> list[Path]:
    """Write the points, the readings at equal KL, the law and the figure; the PNG last."""
    stem = stem.with_name(f"{stem.name}.{found.cell.benchmark}")
    tables = {"csv": _records(found), "at_kl.csv": _at_records(found)}
    if found.law is not None:
        tables["law.csv"] = [_law_record(found.law)]
    written = []
    for suffix, lines in tables.items():
        path = stem.with_name(f"{stem.name}.{suffix}")
        store.write_text(path, to_csv(lines))
        written.append(path)
    png, svg = _draw(found, stem)
    return [*written, svg, png]


def _records(found: Sweep) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    for i, point in enumerate(found.points):
        line: dict[str, object] = {
            "row": point.label,
            found.knob: point.strength,
            "kl": point.kl.value,
            "kl_low": point.kl.low,
            "kl_high": point.kl.high,
            "kl_kind": point.kind,
            "tokens_an_answer": point.tokens,
        }
        for metric, e in point.scores.items():
            line |= {metric: e.value, f"{metric}_low": e.low, f"{metric}_high": e.high}
        if found.readings is not None:
            line["alignment"] = float(found.readings.alignment[i].mean())
            line["capability"] = float(found.readings.capability[i].mean())
        lines.append(line)
    return lines


def _at_records(found: Sweep) -> list[dict[str, object]]:
    return [
        {
            "metric": one.metric,
            "kl": one.kl,
            "value": one.estimate.value,
            "low": one.estimate.low,
            "high": one.estimate.high,
            "reached": not math.isnan(one.estimate.value),
        }
        for one in found.at_kl
    ]


def _law_record(one: Law) -> dict[str, object]:
    line: dict[str, object] = {"holds": one.holds, "two_sided": one.two_sided,
                               "window": one.window, "points": one.points}  # fmt: skip
    for name in ("n_a", "n_h", "slope", "curvature", "odd_h"):
        fit = getattr(one, name)
        line |= {name: fit.value, f"{name}_low": fit.low, f"{name}_high": fit.high}
    return line | {
        "alignment_best": one.best_a,
        "capability_best": one.best_h,
        "efficient": one.efficient,
    }


def _draw(found: Sweep, stem: Path) -> list[Path]:
    columns = max(len(found.metrics), 2 if found.readings is not None else 1)
    deep = 3 if found.readings is not None else 2
    with on_paper():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.4 * columns, 2.7 * deep), layout="constrained")
        panels = figure.subplots(deep, columns, squeeze=False)
        for column, metric in enumerate(found.metrics):
            granted = " (optimised)" if is_optimised(found.cell, metric) else ""
            kl = [p.kl.value for p in found.points]
            bound = "KL ≤, nats" if any(p.kind == "bound" for p in found.points) else "KL, nats"
            _line(panels[0][column], kl, found, metric, bound)
            tokens = [p.tokens for p in found.points]
            _line(panels[1][column], tokens, found, metric, "tokens an answer")
            panels[0][column].set_title(legible(metric + granted), loc="left", fontsize=10)
        if found.readings is not None:
            _readings(panels[2], found)
        used = [len(found.metrics)] * 2 + [2]
        for row, count in zip(panels, used, strict=False):
            for panel in row[count:]:
                panel.set_visible(False)
        title = legible(str(found.cell.spec.get("title") or found.cell.benchmark))
        figure.suptitle(legible(f"{title}: {found.knob} (dashed: {REFERENCE})"), size=10)
        return save(figure, stem)


def _line(panel: Any, x: Sequence[float], found: Sweep, metric: str, what: str) -> None:
    estimates = [p.scores[metric] for p in found.points]
    panel.plot(x, [e.value for e in estimates], "o-", color="C0", markersize=3.5)
    panel.vlines(x, [e.low for e in estimates], [e.high for e in estimates], color="C0", alpha=0.4)
    for point, place, estimate in zip(found.points, x, estimates, strict=True):
        if not math.isnan(place):
            panel.annotate(f"{point.strength:g}", (place, estimate.value), fontsize=6.5,
                           xytext=(2, 3), textcoords="offset points")  # fmt: skip
    base = next((row for row in found.cell.rows if row.label == REFERENCE and row.runs), None)
    if judged(metric):
        panel.axhline(0.5, color="#1b1b1b", lw=0.8, ls="--")
    elif base is not None and metric in base.scorers:
        panel.axhline(float(np.nanmean(base.values(metric))), color="#1b1b1b", lw=0.8, ls="--")
    if what.startswith("KL"):
        for kl in AT_KL:
            panel.axvline(kl, color="#e6e6e6", lw=0.8, zorder=0)
    _plain(panel, what)


def _readings(row: Any, found: Sweep) -> None:
    read = found.readings
    assert read is not None
    names = (("alignment A(c), nats a token", read.alignment),
             ("capability H(c), nats a token", read.capability))  # fmt: skip
    for panel, (title, values) in zip(row, names, strict=False):
        panel.plot(read.c, values.mean(1), "o", color="C0", markersize=3.5)
        panel.set_title(title, loc="left", fontsize=10)
        _plain(panel, legible(found.knob))
    if found.law is not None:
        zero = int(np.flatnonzero(read.c == 0)[0])
        low = -found.law.window if found.law.two_sided or read.c.min() < 0 else 0.0
        c = np.linspace(low, found.law.window, 50)
        row[0].plot(c, read.alignment[zero].mean() + found.law.slope.value * c, color="C1", lw=1)
        fall = found.law.curvature.value * c**2
        row[1].plot(c, read.capability[zero].mean() - fall, color="C1", lw=1)


def _plain(panel: Any, what: str) -> None:
    panel.set_xlabel(what)
    panel.grid(color="#e6e6e6", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
