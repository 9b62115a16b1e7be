"""Figures: paired differences as forest plots, best-of-N curves; the same bytes every time.

matplotlib is imported when a figure is drawn, and used without its global state.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from harness.conduct import store
from harness.report import rates
from harness.report.columns import MARKS, decimals, heading, spread
from harness.report.comparison import Comparison, Result
from harness.report.frames import read_pools
from harness.report.markup import plain
from harness.report.pool import Curve, curve
from harness.report.statistics import Estimate

INK, MUTED, SURE, UNSURE = "#1b1b1b", "#8a8a8a", "#0b5fa5", "#9db8cf"
STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "plumbline",  # ids in the file come from the drawing, not from chance
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same on every machine
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a method's name is no formula
    "text.usetex": False,
}
CROWD = 5  # curves that a legend inside a panel can name
REACH = 0.25  # of what the rows' own intervals span: how far joint ones are drawn beyond it
FOLD = 34  # characters of a label on one line
SHOWN = set("–−±×≤≥…" + "".join(MARKS.values()))


def draw_benchmark(comparison: Comparison, out: Path) -> list[Path]:
    """Draw what belongs beside one benchmark's table: PNG and SVG of each figure."""
    written = []
    if any(result.difference for result in comparison.results):
        written += _draw_forest([comparison], out / comparison.cell.benchmark)
    curves = {r.row.label: found for r in comparison.results if (found := _curve(r)) is not None}
    if curves:
        written += _draw_curves(comparison, curves, out)
    return written


def draw_overall(comparisons: Sequence[Comparison], out: Path) -> list[Path]:
    """Draw all benchmarks side by side, each on its own scale."""
    known = [c for c in comparisons if any(result.difference for result in c.results)]
    return _draw_forest(known, out / "overall") if known else []


def legible(text: str) -> str:
    """Replace what the figure's typeface cannot show."""
    return "".join(c if c in SHOWN or ord(c) < 0x250 else "?" for c in plain(text))


def shortened(label: str) -> str:
    """Name a row without its fields, where a figure has no room for them."""
    row, bracket, how = label.partition(" [")
    name = "+".join(rates.names(row))
    return f"{name}, {how.partition(',')[0].rstrip(']')}" if bracket else name


def folded(label: str) -> str:
    """Break a long row's label at its commas and plus signs, so that a figure has room to draw."""
    lines = [""]
    for part in re.findall(r"[^,+]*[,+]?", label):
        if lines[-1] and len(lines[-1]) + len(part) > FOLD:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


# ------------------------------------------------------------- forest plots


def _draw_forest(comparisons: Sequence[Comparison], stem: Path) -> list[Path]:
    labels = {r.row.label: r for c in reversed(comparisons) for r in c.results if not _base(r)}
    names = sorted(labels)
    with on_paper():
        from matplotlib.figure import Figure

        alone = len(comparisons) == 1
        width = 7.2 if alone else 2.2 + 2.3 * len(comparisons)
        ticks = [folded(legible(_marked(labels[name]))) for name in names]
        inches = [0.17 + 0.15 * (tick.count("\n") + 1) for tick in ticks]
        ends = list(accumulate(inches))
        heights = [end - own / 2 for end, own in zip(ends, inches, strict=True)]
        rows = dict(zip(names, heights, strict=True))
        figure = Figure(figsize=(width, 1.25 + ends[-1]), layout="constrained")
        panels = figure.subplots(1, len(comparisons), squeeze=False)[0]
        for number, (panel, comparison) in enumerate(zip(panels, comparisons, strict=True)):
            _panel(panel, comparison, rows, with_text=alone)
            panel.set_yticks(heights if number == 0 else [], ticks if number == 0 else [])
            panel.set_ylim(ends[-1] + 0.03, -0.03)
        return save(figure, stem)


def _panel(panel: Any, comparison: Comparison, rows: Mapping[str, float], with_text: bool) -> None:
    results = {r.row.label: r for r in comparison.results}
    known = [r.joint for r in results.values() if r.joint and not r.why]
    places = decimals(known)
    panel.axvline(0, color=INK, linewidth=0.8)
    beside = panel.get_yaxis_transform()  # x in shares of the panel's width
    drawn: list[tuple[Estimate, Estimate, float]] = []  # of all rows at once, of this row alone
    for name, y in rows.items():
        result = results.get(name)
        if result is None or result.joint is None or result.why:
            panel.text(
                0.02,
                y,
                legible(_absence(result)),
                transform=beside,
                color=MUTED,
                va="center",
                fontsize=7.5,
                style="italic",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )
            continue
        estimate = result.joint
        drawn.append((estimate, result.difference or estimate, y))
        if with_text:
            panel.text(
                1.02,
                y,
                spread(estimate, places, signed=True),
                transform=beside,
                va="center",
                fontsize=8,
                weight="bold" if estimate.excludes_zero else "normal",
            )
    left, right = _limits([alone for _, alone, _ in drawn], [joint for joint, _, _ in drawn])
    for surely, colour in ((True, SURE), (False, UNSURE)):  # an artist for all rows
        found = [one for one in drawn if bool(one[0].excludes_zero) == surely]
        for lines, width in (
            ([(joint, y) for joint, _, y in found], 1.0),
            ([(alone, y) for _, alone, y in found], 3.2),
        ):
            wide = [(e.low, e.high, y) for e, y in lines if e.low == e.low]
            panel.hlines([y for *_, y in wide], [low for low, *_ in wide],
                         [high for _, high, _ in wide], colors=colour, linewidth=width)  # fmt: skip
        panel.plot([joint.value for joint, _, _ in found], [y for _, _, y in found], "o",
                   color=colour, ms=5)  # fmt: skip
        inside = 0.012 * (right - left)
        for edge, marker, beyond in (
            (left + inside, "<", [y for e, _, y in found if e.low < left]),
            (right - inside, ">", [y for e, _, y in found if e.high > right]),
        ):
            panel.plot([edge] * len(beyond), beyond, marker, color=colour, ms=4)
    if left < right:
        panel.set_xlim(left, right)
    title = legible(str(comparison.spec.get("title") or comparison.cell.benchmark))
    what = legible(heading(comparison, comparison.headline))
    panel.set_title(title, loc="left", fontsize=10, weight="bold")
    if with_text:
        what = (
            f"difference in {what} to unsteered\nthick: 95 % of this row; thin: of all rows at once"
        )
    panel.set_xlabel(what)
    panel.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _limits(alone: Sequence[Estimate], joint: Sequence[Estimate]) -> tuple[float, float]:
    """Give room to every row's own interval; joint ones, wide with few fits, may be cut."""
    ends = [x for e in alone for x in (e.low, e.value, e.high) if x == x]
    far = [x for e in joint for x in (e.low, e.high) if x == x]
    if not ends:
        return 0.0, 0.0
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room, edge = REACH * (high - low), 0.03 * (high - low)
    low, high = max(low - room, min([low, *far])), min(high + room, max([high, *far]))
    return low - edge, high + edge


def _absence(result: Result | None) -> str:
    if result is None:
        return "not run"
    reason = result.why.split(":")[0] if not result.row.runs else result.why
    return reason or "no value"


def _base(result: Result) -> bool:
    return result.why == "reference"


def _marked(result: Result) -> str:
    return " ".join([result.row.label, *(MARKS[m] for m in result.row.marks if m in MARKS)])


# ---------------------------------------------------------- best-of-N curves


def _curve(result: Result) -> Curve | None:
    pools = [pool for run in result.row.runs for pool in read_pools(run)]
    return curve(pools) if pools and min(len(pool.scores) for pool in pools) > 1 else None


def _draw_curves(comparison: Comparison, curves: Mapping[str, Curve], out: Path) -> list[Path]:
    golden = any(found.gold for found in curves.values())
    # a ceiling selects by gold itself, another unit than the other rows' selecting score
    ceilings = {r.row.label for r in comparison.results if "ceiling" in r.row.marks}
    ceilings = ceilings if set(curves) - ceilings else set()
    with on_paper():
        from matplotlib.figure import Figure

        columns = 2 if golden else 1
        crowded = len(curves) > CROWD  # then the legend stands below the panels
        below = 0.17 * -(-len(curves) // columns) if crowded else 0.0
        figure = Figure(figsize=(7.2 if golden else 4.2, 3.0 + below), layout="constrained")
        panels = figure.subplots(1, columns, squeeze=False)[0]
        for panel, title in zip(panels, ("selecting score", "gold of the selected"), strict=False):
            panel.set_title(title, loc="left", fontsize=10)
            panel.set_xscale("log", base=2)
            panel.set_xlabel("candidates n")
            panel.grid(color="#e6e6e6", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        for i, (label, found) in enumerate(sorted(curves.items())):
            for panel, estimates in zip(panels, (found.selecting, found.gold), strict=False):
                if estimates and not (panel is panels[0] and golden and label in ceilings):
                    _line(panel, estimates, i, legible(label))
        longest = max(len(found.selecting) for found in curves.values())
        ticks = [2**k for k in range(longest.bit_length())]
        for panel in panels:
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            panel.minorticks_off()
        if crowded:
            lines = panels[-1].get_legend_handles_labels()
            figure.legend(
                *lines, loc="outside lower center", ncols=columns, frameon=False, fontsize=7
            )
        else:
            panels[-1].legend(frameon=False, fontsize=8)
        title = legible(str(comparison.spec.get("title") or comparison.cell.benchmark))
        figure.suptitle(f"{title}: best of n, from one pool of candidates", weight="bold", size=10)
        return save(figure, out / f"{comparison.cell.benchmark}.best_of_n")


def _line(panel: Any, estimates: Sequence[Estimate], number: int, label: str) -> None:
    colour, dashes = f"C{number % 10}", ("-", "--", ":")[number // 10 % 3]
    n = range(1, len(estimates) + 1)
    means = [e.value for e in estimates]
    panel.plot(n, means, "o", linestyle=dashes, color=colour, markersize=3, label=label)
    panel.fill_between(
        n, [e.low for e in estimates], [e.high for e in estimates], color=colour, alpha=0.18, lw=0
    )


# ----------------------------------------------------------------- on paper


@contextmanager
def on_paper() -> Iterator[None]:
    """Draw in one fixed style, whatever the user's settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Any, stem: Path) -> list[Path]:
    """Write PNG and SVG.

    The canvases are asked directly: ``savefig`` draws twice.  The first drawing lays the
    figure out, which takes longest; the second keeps that layout.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.set_dpi(120)
    png, svg = io.BytesIO(), io.BytesIO()
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    figure.set_layout_engine("none")
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    paths = []
    for suffix, content in (("png", png), ("svg", svg)):
        path = stem.with_name(f"{stem.name}.{suffix}")
        store.write_bytes(path, content.getvalue())
        paths.append(path)
    return paths
