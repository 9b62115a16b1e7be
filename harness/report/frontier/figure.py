"""Reward against KL: the frontier, best of N, every row a point and every knob a curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.report.figures import INK, MUTED, SURE, folded, legible, on_paper, save
from harness.report.frontier.estimator import Frontier, divergence_bound
from harness.report.frontier.gaps import AT_KL, Gaps, Point, best_of_n, numbers

TICKS = (0, 0.1, 0.5, 1, 2, 4, 8, 12, 16)
PROXY = "#b5532a"
LONGEST = 96  # characters of a row's name beside the panels
WIDE, TALL = 3.6, 3.3  # inches of a panel, about; only labels are placed by it
PLACES = ((3, 3), (3, -9), (-10, 3), (-10, -9), (9, -3), (-16, -3), (3, 10), (3, -16))  # points


def draw(found: Gaps, stem: Path) -> list[Path]:
    """Draw one panel for each reward, on one scale of KL (its square root); PNG and SVG."""
    scorers = found.base.scorers
    names = _numbered(found)
    with on_paper():
        from matplotlib.figure import Figure

        lines = sum(1 + _name(label).count("\n") for label in names)
        figure = Figure(figsize=(4.1 * len(scorers) + 2.9, max(4.2, 0.9 + 0.145 * lines)),
                        layout="constrained")  # fmt: skip
        grid = figure.add_gridspec(1, len(scorers) + 1, width_ratios=[*[4.1] * len(scorers), 2.6])
        seen: set[str] = set()
        for column, scorer in enumerate(scorers):
            seen |= _Panel(figure.add_subplot(grid[0, column]), found, scorer).draw(names)
        _key(figure.add_subplot(grid[0, len(scorers)]), found, names, seen)
        title = legible(str(found.base.spec.get("title") or found.base.spec["benchmark"]))
        count = f"{len(found.base.prompts)} prompts, {found.base.samples} base answers each"
        figure.suptitle(f"{title}: reward against KL ({count})", weight="bold", size=10)
        return save(figure, stem)


def _numbered(found: Gaps) -> dict[str, int]:
    labels = [p.row.label for points in found.points.values() for p in points]
    return {label: i for i, label in enumerate(dict.fromkeys(labels), start=1)}


def _colours(found: Gaps) -> dict[str, str]:
    return {label: f"C{i % 10}" for i, c in enumerate(found.curves) for label in c.labels}


class _Panel:
    """One reward.  What lies far below the base model or far away is left to the table."""

    def __init__(self, axes: Any, found: Gaps, scorer: str) -> None:
        self.axes, self.found, self.scorer = axes, found, scorer
        self.end = 1.3 * AT_KL[-1]
        base = found.optimum[scorer][0.0][0].value
        points = found.points[scorer]
        top = max([found.optimum[scorer][AT_KL[-1]][0].value, *(p.reward.value for p in points)])
        rise = max(top - base, 1e-9)
        self.low, self.high = base - 0.4 * rise, top + 0.12 * rise
        self.taken: list[tuple[float, float]] = []

    def draw(self, names: Mapping[str, int]) -> set[str]:
        """Draw everything; give the rows that are in the picture."""
        axes, found, base = self.axes, self.found, self.found.base
        axes.set_xscale("function", functions=(_root, np.square))
        axes.set_xlim(0, self.end)
        axes.set_ylim(self.low, self.high)
        self._frontier(base.best(self.scorer), base.estimated[self.scorer])
        if self.scorer == "gold" and len(base.scorers) > 1:
            self._fooled(base.best(base.scorers[0]), found.named(base.scorers[0]))
        points = {p.row.label: p for p in found.points[self.scorer]}
        for i, curve in enumerate(found.curves):
            line = [points[label] for label in curve.labels if label in points]
            known = [(p.kl.value, p.reward.value) for p in line if p.kind != "none"]
            if len(known) > 1:
                axes.plot(*zip(*known, strict=True), "-", color=f"C{i % 10}", lw=1.0, alpha=0.8)
        shown = {label: p for label, p in points.items() if self._inside(p)}
        self.taken += [self._place(p) for p in shown.values()]
        colours = _colours(found)
        for label, point in shown.items():
            self._point(point, str(names[label]), colours.get(label, INK))
        axes.set_title(legible(found.named(self.scorer)), loc="left", fontsize=10)
        ticks = [t for t in TICKS if t <= self.end]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set_xlabel("KL from the base model, nats (square-root scale)")
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7, loc="lower right")
        return set(shown)

    def _inside(self, point: Point) -> bool:
        near = point.kind == "none" or point.kl.value <= self.end
        return near and point.reward.value >= self.low

    def _place(self, point: Point) -> tuple[float, float]:
        """Give where a point lies, in typographic points from the lower left."""
        x = self.end if point.kind == "none" else point.kl.value
        up = (point.reward.value - self.low) / (self.high - self.low)
        return 72 * WIDE * float(_root(x / self.end)), 72 * TALL * up

    def _point(self, point: Point, name: str, colour: str) -> None:
        x, y = self.end if point.kind == "none" else point.kl.value, point.reward.value
        hollow = bool(set(point.row.marks) & {"control", "ceiling"})
        if point.kind == "none":
            self.axes.axhline(y, xmin=0.97, color=colour, lw=1.2)
        else:
            if point.kind == "bound":
                arrow = {"arrowstyle": "->", "color": colour, "lw": 0.8}
                self.axes.annotate("", (x * 0.72, y), (x, y), arrowprops=arrow)
            self.axes.plot([x], [y], "o", color=colour, ms=4.5, mfc="white" if hollow else colour)
        left, up = self._place(point)
        free = [
            min((left + a + 4 - x) ** 2 + (up + b + 3 - y) ** 2 for x, y in self.taken)
            for a, b in PLACES
        ]
        offset = next((p for p, f in zip(PLACES, free, strict=True) if f > 64), None)
        offset = offset or PLACES[int(np.argmax(free))]
        self.taken.append((left + offset[0] + 4, up + offset[1] + 3))
        self.axes.annotate(name, (x, y), fontsize=6.5, xytext=offset, color=colour,
                           textcoords="offset points")  # fmt: skip

    def _frontier(self, best: Frontier, estimated: Frontier) -> None:
        axes, sampled = self.axes, estimated.curve
        kl = [float(t.kl.mean()) for t in sampled]
        reward = [float(t.reward.mean()) for t in sampled]
        low, high = [e.low for e in estimated.band], [e.high for e in estimated.band]
        axes.fill_between(kl, low, high, color=SURE, alpha=0.15, lw=0)
        if best.exact:
            x = [float(t.kl.mean()) for t in best.curve]
            y = [float(t.reward.mean()) for t in best.curve]
            axes.plot([*x, self.end], [*y, y[-1]], color=SURE, lw=1.8, label="frontier, exact")
            axes.plot(kl, reward, ":", color=INK, lw=1.6, label="its estimate from samples")
        else:
            axes.plot(kl, reward, color=SURE, lw=1.8, label="frontier (a lower bound of it)")
        chosen = best_of_n(estimated)
        bounds = [divergence_bound(n) for n in numbers(estimated)]
        axes.plot(
            bounds, chosen, ".-", color=MUTED, lw=1.0, ms=3, label="best of n, at its KL bound"
        )
        axes.plot([bounds[-1], self.end], [chosen[-1]] * 2, ":", color=MUTED, lw=1.0)
        axes.axhline(reward[0], color=MUTED, lw=0.8, ls="--")

    def _fooled(self, proxy: Frontier, name: str) -> None:
        """Show gold along the proxy's frontier: by what it lies lower, optimising a proxy costs."""
        kl = [float(t.kl.mean()) for t in proxy.curve]
        gold = [float(np.mean(t.other)) for t in proxy.curve if t.other is not None]
        self.axes.plot(kl, gold, color=PROXY, lw=1.3, label=f"gold along the {name}'s frontier")


def _root(x: Any) -> Any:
    return np.sqrt(np.maximum(x, 0.0))


def _name(label: str) -> str:
    return folded(legible(label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"))


def _key(panel: Any, found: Gaps, names: Mapping[str, int], seen: set[str]) -> None:
    """List the rows by their numbers, each with its KL, its bound or a dash."""
    panel.set_axis_off()
    points = {p.row.label: p for of in found.points.values() for p in of}
    colours = _colours(found)
    lines = [("rows (KL in nats; ≤: its bound; –: none)" if names else "no row is run yet", INK)]
    for label, number in names.items():
        text = _name(label).replace("\n", "\n      ")
        colour = colours.get(label, INK) if label in seen else MUTED
        lines += [(f"{number:>2}  {text}  ({points[label].far})", colour)]
    if set(names) - seen:
        lines.append(("grey: outside of the picture", MUTED))
    total = sum(1 + text.count("\n") for text, _ in lines)
    step, at = min(1 / total, 0.045), 1.0
    for text, colour in lines:
        panel.text(0, at, text, fontsize=6.8, va="top", color=colour, transform=panel.transAxes,
                   linespacing=1.3)  # fmt: skip
        at -= step * (1 + text.count("\n"))
