"""Every row held against the frontier of its benchmark: how much reward it leaves at its KL.

A row is a point: its mean reward at its mean KL.  Rows of one method that differ in one number
alone are a curve over that number.  What a row or a curve is worth at k nats is the best mean
reward among its points of KL at most k: nothing is read between points.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from harness.conduct import store
from harness.records import Json
from harness.report.columns import number
from harness.report.frames import Cell, Row
from harness.report.frontier.base_answers import Base
from harness.report.frontier.estimator import Frontier, Reading, divergence_bound
from harness.report.statistics import (
    Array,
    Contrast,
    Estimate,
    bootstrap,
    identity_seed,
    mean_over_rows,
)

AT_KL = (2.0, 4.0, 8.0)  # nats
KLKind = Literal["exact", "bound", "none"]
Side = Literal["is", "at least", "at most", "unknown"]
NOTHING = Estimate(math.nan)


@dataclass(frozen=True)
class Point:
    """One row by one reward.

    kl       nats; kind: "exact" per step or by enumeration, "bound", or "none".
    best     the frontier there; NaN where the KL is not known.
    gap      reward lost against it; side: whether it is that, or at least or at most that.
             Intervals are for a population of prompts.
    """

    row: Row
    scorer: str
    kl: Estimate
    kind: KLKind
    reward: Estimate
    best: float = math.nan
    gap: Estimate = NOTHING
    side: Side = "unknown"

    @property
    def far(self) -> str:
        """Print the KL, its bound, or a dash."""
        places = 1 if self.kl.value >= 9.95 else 2
        return ("≤ " if self.kind == "bound" else "") + number(self.kl.value, places)


@dataclass(frozen=True)
class Curve:
    """Rows of one method that differ in one number: the knob's name, and its values, rising."""

    name: str
    values: tuple[float, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Gaps:
    """One benchmark: its frontiers, its rows, and what was left out.

    optimum   scorer -> KL -> the frontier read there, with its interval for a population of
              prompts.
    points    scorer -> rows.
    left_out  row -> why it is not held against this frontier.
    """

    base: Base
    cell: Cell
    optimum: Mapping[str, Mapping[float, tuple[Reading, Estimate]]]
    points: Mapping[str, tuple[Point, ...]]
    curves: tuple[Curve, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def named(self, scorer: str) -> str:
        """Name a reward; the one that methods are granted is named so."""
        shared = scorer == "reward" and bool(self.base.spec.get("optimised"))
        granted = shared or scorer == "optimised_reward"
        return "optimised reward" if granted else scorer.replace("_", " ")

    def unknown(self, labels: Sequence[str]) -> list[str]:
        """Name those of some rows that have no KL to be held against the frontier at."""
        points = next(iter(self.points.values()), ())
        return [p.row.label for p in points if p.kind == "none" and p.row.label in labels]

    def worth(self, scorer: str, labels: Sequence[str], kl: float) -> float:
        """Give the best mean reward among some rows' points of KL at most ``kl``; NaN if none."""
        points = [p for p in self.points[scorer] if p.row.label in labels]
        return max((p.reward.value for p in points if p.kl.value <= kl), default=math.nan)

    def hypervolume(self, scorer: str, labels: Sequence[str]) -> float:
        """Give the area of some rows' points above the base reward, up to 8 nats.

        Every point counts as a step from its KL on.  As a share of the frontier's own area, of
        which a lower bound may be all that is known; NaN where no point has a KL.
        """
        known = [
            (p.kl.value, p.reward.value)
            for p in self.points[scorer]
            if p.row.label in labels and p.kind != "none"
        ]
        if not known:
            return math.nan
        floor, end = self.optimum[scorer][0.0][0].value, AT_KL[-1]
        marks = [*sorted({kl for kl, _ in known if kl < end}), end]
        area = 0.0
        for start, stop in itertools.pairwise(marks):
            best = max(reward for kl, reward in known if kl <= start)
            area += (stop - start) * max(best - floor, 0.0)
        whole = self._areas[scorer]
        return area / whole if whole > 0 else math.nan

    @cached_property
    def _areas(self) -> dict[str, float]:
        """Give the area between each frontier and the base model's reward."""
        found = {}
        for scorer in self.base.scorers:
            kl, reward = optimal(self.base.best(scorer), AT_KL[-1])
            above = reward - self.optimum[scorer][0.0][0].value
            found[scorer] = float((above[1:] + above[:-1]) / 2 @ np.diff(kl))
        return found


def optimal(frontier: Frontier, end: float) -> tuple[Array, Array]:
    """Give the best known lower bound of the optimum as a line from KL 0 to ``end``.

    Returns [points] of KL and of reward: the frontier as far as it is read, then best of N.
    """
    known = [(float(t.kl.mean()), float(t.reward.mean())) for t in frontier.curve]
    places = [(kl, reward) for kl, reward in known if kl <= end]
    over = next((i for i, (kl, _) in enumerate(known) if kl > end), None)
    if over is not None:  # the last stretch, cut at the end
        (x0, y0), (x1, y1) = known[over - 1], known[over]
        places.append((end, y0 + (y1 - y0) * (end - x0) / (x1 - x0)))
    elif not frontier.exact:
        for n, best in zip(numbers(frontier), best_of_n(frontier), strict=True):
            kl = divergence_bound(n)
            if places[-1][0] < kl <= end and best > places[-1][1]:
                places += [(kl, places[-1][1]), (kl, best)]  # a step
    places.append((end, places[-1][1]))
    return np.array([kl for kl, _ in places]), np.array([reward for _, reward in places])


def numbers(frontier: Frontier) -> list[int]:
    """Give the N of best-of-N that a frontier's samples can show: every one, then fewer."""
    top = frontier.samples
    return sorted({*range(1, min(top, 16) + 1), *np.geomspace(1, top, 40).astype(int).tolist()})


def best_of_n(frontier: Frontier) -> list[float]:
    """Give the mean reward of best-of-N at each of ``numbers``."""
    return [float(v) for v in frontier.best_of(numbers(frontier)).mean(axis=0)]


# ------------------------------------------------------------------ measured


def gaps(base: Base, cell: Cell) -> Gaps:
    """Hold every finished row of a benchmark against its frontier."""
    asked: dict[str, dict[str, str]] = {}
    rows, left_out = [], {}
    for row in cell.rows:
        if not row.runs:
            left_out[row.label] = row.skipped
        elif why := _differs(base, row, asked):
            left_out[row.label] = why
        else:
            rows.append(row)
    asking = _Asking()
    readings = {(s, k): base.best(s).best(k) for s in base.scorers for k in (0.0, *AT_KL)}
    for at, one in readings.items():
        asking.of(at, Contrast(one.values[None]))
    plans = [
        _plan(base, row, scorer, asking)
        for scorer in base.scorers
        for row in rows
        if scorer in row.scorers
    ]
    made = asking.answered(base.clusters)
    optimum: dict[str, dict[float, tuple[Reading, Estimate]]] = {s: {} for s in base.scorers}
    for (scorer, k), reading in readings.items():
        optimum[scorer][k] = (reading, made[scorer, k])
    points: dict[str, list[Point]] = {scorer: [] for scorer in base.scorers}
    for plan in plans:
        key = (plan.row.label, plan.scorer)
        kl = made.get((plan.row.label, "kl"), plan.kl) if plan.kind == "exact" else plan.kl
        gap = made.get((*key, "gap"), NOTHING)
        points[plan.scorer].append(replace(plan, kl=kl, reward=made[key], gap=gap))
    shown = {scorer: tuple(found) for scorer, found in points.items()}
    return Gaps(base, cell, optimum, shown, tuple(curves(rows)), left_out)


class _Asking:
    """Means to be estimated together, over one set of resamples."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, Contrast] = {}

    def of(self, name: Hashable, what: Contrast) -> None:
        self._asked[name] = what

    def answered(self, clusters: Sequence[str]) -> dict[Hashable, Estimate]:
        seed = identity_seed("frontier", *sorted(clusters))
        made = bootstrap(list(self._asked.values()), clusters, seed=seed)
        return dict(zip(self._asked, made, strict=True))


def _plan(base: Base, row: Row, scorer: str, asking: _Asking) -> Point:
    """Give a row's point but for its intervals, which are asked for."""
    kind, kl, rewards = _measured(base, row, scorer)
    asking.of((row.label, scorer), Contrast(rewards))
    if kind == "none":
        return Point(row, scorer, NOTHING, kind, NOTHING)
    if kind == "exact":
        asking.of((row.label, "kl"), Contrast(kl[None]))
    value = float(np.nanmean(kl) if kind == "exact" else kl[0])
    reading = base.best(scorer).best(value)
    side = _side(kind, reading)
    if side != "unknown":
        best = reading.values + reading.slope * (kl - value)
        asking.of((row.label, scorer, "gap"), Contrast(best[None], rewards))
    return Point(row, scorer, Estimate(value), kind, NOTHING, reading.value, side=side)


def _differs(base: Base, row: Row, known: dict[str, dict[str, str]]) -> str:
    """Say why a row cannot be held against this frontier; "" where it can."""
    run = row.runs[0]
    if run.items not in known:
        lines = store.read_lines(run.folder / "prompts.jsonl")
        known[run.items] = {str(p["id"]): store.digest(p.get("chat")) for p in lines}
    theirs = known[run.items]
    answered = set(row.answered)
    same = sum(
        theirs.get(prompt) == asked and (prompt, 0) in answered
        for prompt, asked in zip(base.prompts, base.asked, strict=True)
    )
    if same == len(base.prompts):
        return ""
    return f"it answered {same} of the frontier's {len(base.prompts)} prompts"


def _measured(base: Base, row: Row, scorer: str) -> tuple[KLKind, Array, Array]:
    """Give what is known of a row's KL, [prompts], and its rewards, [fits, prompts].

    Where a world lists every answer, what it says of a row takes the place of what was drawn.
    """
    place = {key: i for i, key in enumerate(row.answered)}
    columns = [place[prompt, 0] for prompt in base.prompts]
    rewards = row.values(scorer)[:, columns]
    if base.log_p is not None and {"exact_kl", "exact_reward"} <= row.scorers:
        exact = row.values("exact_kl")[:, columns], row.values("exact_reward")[:, columns]
        if not np.isnan(exact).any():
            return "exact", mean_over_rows(exact[0]), exact[1] if scorer == "gold" else rewards
    said = [run.spec.get("kl") or {} for run in row.runs]
    # A reason says that the KL is not that of the answers, but of others drawn beside them.
    kinds = {str(one.get("kind")) if not one.get("reason") else "none" for one in said}
    if kinds == {"exact-per-step"} and "kl" in row.scorers:
        kl = mean_over_rows(row.values("kl")[:, columns])
        if not np.isnan(kl).all():
            return "exact", kl, rewards
    if kinds == {"bound"}:
        return "bound", np.full(len(columns), max(float(one["bound"]) for one in said)), rewards
    return "none", np.full(len(columns), np.nan), rewards


def _side(kind: KLKind, reading: Reading) -> Side:
    """Say what a gap is: a bound on KL makes it at most that, a bound on the optimum at least."""
    if kind == "bound":
        return "unknown" if reading.beyond else "at most"
    return "at least" if reading.beyond else "is"


# ------------------------------------------------------------------ curves


def curves(rows: Sequence[Row]) -> list[Curve]:
    """Find rows of one method that differ in one number and nothing else."""
    groups: dict[tuple[str, str], dict[float, str]] = {}
    for row in rows:
        stack: list[dict[str, Json]] = [dict(part) for part in row.spec.get("stack") or ()]
        for part in stack:
            part.pop("changed", None)
        for i, part in enumerate(stack):
            settings = part.get("settings") or {}
            for name, value in settings.items():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    continue
                others = {k: v for k, v in settings.items() if k != name}
                rest = [*stack[:i], {**part, "settings": others}, *stack[i + 1 :]]
                knob = f"{'+'.join(str(p['name']) for p in stack)} over {name}"
                key = (knob, json.dumps([i, rest], sort_keys=True))
                groups.setdefault(key, {})[float(value)] = row.label
    return [
        Curve(knob, tuple(sorted(found)), tuple(found[v] for v in sorted(found)))
        for (knob, _), found in groups.items()
        if len(found) > 1
    ]
