"""Gain against tokens, benchmark by benchmark, with the line of what is best for its tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.report.columns import heading
from harness.report.comparison import Comparison
from harness.report.cost.bills import Point
from harness.report.figures import INK, MUTED, SURE, UNSURE, legible, on_paper, save, shortened


def draw(
    comparisons: Sequence[Comparison], points: Mapping[str, Sequence[Point]], stem: Path
) -> list[Path]:
    """Draw a panel for each benchmark that has gains; PNG and SVG, none where there are none."""
    known = {
        c.cell.benchmark: (c, [p for p in points.get(c.cell.benchmark, ()) if _drawn(p)])
        for c in comparisons
    }
    panels_of = [(c, found) for c, found in known.values() if len(found) > 1]
    if not panels_of:
        return []
    with on_paper():
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullFormatter

        across = min(2, len(panels_of))
        down = -(-len(panels_of) // across)
        figure = Figure(figsize=(4.6 * across, 3.4 * down), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for panel in panels[len(panels_of) :]:
            panel.set_visible(False)
        for panel, (comparison, found) in zip(panels, panels_of, strict=False):
            front = sorted((p.tokens, p.gain, p.label) for p in found if p.front and p.gain > 0)
            short = Counter(shortened(label) for _, _, label in front)
            panel.axhline(0, color=INK, linewidth=0.8)
            panel.step([p[0] for p in front], [p[1] for p in front], where="post", color=SURE, lw=1)
            for point in found:
                colour = SURE if point.front and point.gain > 0 else UNSURE
                panel.plot([point.tokens], [point.gain], "o" if point.chosen else "x",
                           color=colour if point.chosen else MUTED, markersize=4)  # fmt: skip
            for tokens, gain, label in front:
                name = shortened(label) if short[shortened(label)] == 1 else label
                panel.annotate(legible(name), (tokens, gain), xytext=(3, 3), fontsize=6.5,
                               textcoords="offset points")  # fmt: skip
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
            panel.xaxis.set_minor_formatter(NullFormatter())
            title = legible(str(comparison.spec.get("title") or comparison.cell.benchmark))
            panel.set_title(title, loc="left", fontsize=10, weight="bold")
            panel.set_xlabel("tokens an answer, × unsteered")
            panel.set_ylabel(f"gain in {legible(heading(comparison, comparison.headline))}")
            panel.grid(color="#e6e6e6", linewidth=0.6)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
        return save(figure, stem)


def _drawn(point: Point) -> bool:
    return point.gain == point.gain and point.tokens > 0
