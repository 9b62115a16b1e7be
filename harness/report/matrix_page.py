"""A matrix of stacks on paper: heat maps, the page in Markdown and LaTeX, all numbers as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.report.columns import decimals, number, spread
from harness.report.comparison import negated
from harness.report.fields import Record, interval_fields
from harness.report.figures import INK, MUTED, folded, legible, on_paper, save
from harness.report.frames import REFERENCE
from harness.report.markup import (
    Block,
    Grid,
    Line,
    Notes,
    Page,
    Picture,
    bold,
    line,
)
from harness.report.matrix import Crossed, Labels, Matrix, Stacked
from harness.report.pages import write_page
from harness.report.statistics import Estimate

SURE = "*"  # behind a number whose interval leaves zero out


def write(found: Sequence[Matrix], crossed: Crossed, stem: Path) -> list[Path]:
    """Write page, numbers and heat maps; the page comes first."""
    pictures = []
    for one in found:
        pictures += _draw([one], crossed, _beside(stem, f".{one.cell.benchmark}"))
    if len(found) > 1:
        pictures = [*_draw(found, crossed, stem), *pictures]
    page = _page(found, crossed, pictures)
    return [*write_page(stem, page, _records(found)), *pictures]


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


# ---------------------------------------------------------------------- page


def _page(found: Sequence[Matrix], crossed: Crossed, pictures: Sequence[Path]) -> Page:
    blocks: list[Block] = [
        Picture("what stacking brings over the better part", path.name)
        for path in pictures
        if path.suffix == ".png"
    ]
    for one in found:
        title = str(one.cell.spec.get("title") or one.cell.benchmark)
        blocks += [
            Grid(
                f"{title}: parts",
                ("part", "touches", one.metric, f"over {REFERENCE}"),
                _parts(one, crossed),
            ),
            Grid(
                f"{title}: stacks",
                ("stack", one.metric, "better part", "gain over it", "interaction", "order"),
                _stacks(one),
            ),
        ]
    empty = _empty(found, crossed)
    if empty:
        blocks.append(Notes(f"Empty cells ({len(empty)})", tuple(map(line, empty))))
    blocks.append(_legend(crossed))
    about = next((str(o.cell.spec["about"]) for o in found if o.cell.spec.get("about")), "")
    return Page(
        about or f"Protocol {crossed.protocol}",
        f"Stacks of {', '.join(crossed.parts)}",
        (
            line(
                "How to read it: a stack applies its methods together, each learning on the model "
                "as its left has changed it. What it gains is held against the better of its "
                "parts alone, prompt by prompt; 95 % intervals in brackets, bold where they leave "
                "zero out."
            ),
        ),
        tuple(blocks),
    )


def _parts(one: Matrix, crossed: Crossed) -> tuple[tuple[Line, ...], ...]:
    places = decimals(one.scores.values())
    further = decimals(one.over.values())
    base = one.scores[REFERENCE]
    return (
        (line(REFERENCE), line("nothing"), line(spread(base, places)), line("reference")),
        *(
            (
                line(part),
                line(kind),
                line(spread(one.scores[part], places)),
                _found(one.over[part], further),
            )
            for part, kind in crossed.parts.items()
        ),
    )


def _stacks(one: Matrix) -> tuple[tuple[Line, ...], ...]:
    places = decimals(stack.score for stack in one.stacks)
    further = decimals([s.gain for s in one.stacks] + [s.interaction for s in one.stacks])
    return tuple(
        (
            line(stack.label),
            line(spread(stack.score, places)),
            line(stack.better),
            _found(stack.gain, further),
            _found(stack.interaction, further),
            _found(stack.order, further) if stack.order else line("–"),
        )
        for stack in one.stacks
    )


def _found(estimate: Estimate, places: int) -> Line:
    text = spread(estimate, places, signed=True)
    return line(bold(text)) if estimate.excludes_zero else line(text)


def _empty(found: Sequence[Matrix], crossed: Crossed) -> list[str]:
    lines = [f"{'+'.join(labels)}: {why}" for labels, why in crossed.refused.items()]
    lines += [f"{part} with anything: {why}" for part, why in crossed.skipped.items()]
    for one in found:
        lines += [
            f"{'+'.join(labels)} on {one.cell.benchmark}: no finished run" for labels in one.missing
        ]
    return lines


def _legend(crossed: Crossed) -> Notes:
    return Notes(
        "Legend",
        (
            line("gain: the stack's mean less that of the better of its parts, chosen by its mean "
                 "on the same prompts, which can only make a gain look smaller"),
            line("interaction: the stack less the sum of its parts' effects; nought where effects "
                 "add up, below nought where one does what the other has done already"),
            line("order: the stack less the same methods the other way round; – where that was "
                 "not run (ORDERS=1 runs it), or where nothing can come of it"),
            line("intervals: the gains of all stacks and benchmarks hold together 95 times in 100; "
                 "so do the interactions, the orders, and the parts' differences"),
            line(f"terms: {crossed.protocol}-{crossed.hash}"),
        ),
    )  # fmt: skip


# ------------------------------------------------------------------- numbers


def _records(found: Sequence[Matrix]) -> list[Record]:
    records: list[Record] = []
    for one in found:
        head: Record = {"benchmark": one.cell.benchmark, "metric": one.metric}
        for part, score in one.scores.items():
            over = one.over.get(part, Estimate(float("nan")))
            record = head | {"stack": part, "parts": 0 if part == REFERENCE else 1}
            record |= interval_fields("score", score) | {"better": ""}
            records.append(record | interval_fields("gain", over))
        records += [head | _record(stack) for stack in one.stacks]
    return records


def _record(stack: Stacked) -> Record:
    record: Record = {"stack": stack.label, "parts": len(stack.parts)}
    record |= interval_fields("score", stack.score) | {"better": stack.better}
    record |= interval_fields("gain", stack.gain)
    record |= interval_fields("interaction", stack.interaction)
    if stack.order is not None:
        record |= interval_fields("order", stack.order)
    return record


# ------------------------------------------------------------------ heat map


CAPTION = (
    "diagonal: a part over unsteered; above it: two parts stacked, over the better of them (blue: "
    "more);\nbelow it: what the other order changes; under it: full stacks, over their best part. "
    "*: the 95 % interval leaves zero out"
)
SHORT = 16  # characters of a label that fit over a cell
BAR = 0.62  # height of a full stack's bar, in cells


def _draw(found: Sequence[Matrix], crossed: Crossed, stem: Path) -> list[Path]:
    full = [labels for labels in (*crossed.stacks, *crossed.refused) if len(labels) > 2]
    wide = max(3.4, 1.05 * len(crossed.parts))
    with on_paper():
        from matplotlib.figure import Figure

        names = [folded(legible(part)) for part in crossed.parts]
        margin = 0.09 * max(len(line) for name in names for line in name.split("\n"))
        height = 2.0 + 0.75 * (len(crossed.parts) + BAR * len(full))
        figure = Figure(
            figsize=(max(7.0, 0.6 + margin + (wide + 0.4) * len(found)), height),
            layout="constrained",
        )
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for place, (panel, one) in enumerate(zip(panels, found, strict=True)):
            _panel(panel, one, crossed, names if place == 0 else [], full)
        figure.suptitle("What stacking brings over the better part", size=10, weight="bold")
        figure.supxlabel(CAPTION, size=7.5, color=MUTED)
        return save(figure, stem)


def _panel(
    panel: Any, one: Matrix, crossed: Crossed, names: Sequence[str], full: Sequence[Labels]
) -> None:
    """Draw one benchmark: parts on the diagonal, pairs beside it, full stacks below."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    parts = list(crossed.parts)
    known = {stack.parts: stack for stack in one.stacks}
    gains = [stack.gain for stack in one.stacks]
    reach = max((abs(e.value) for e in gains), default=1.0) or 1.0
    places = decimals([*gains, *one.over.values()])

    def box(
        place: tuple[float, float, float, float], text: str, found: Estimate | None, colour: Any
    ) -> None:
        """Fill x, y, width and height; a number comes with its interval under it."""
        x, y, width, height = place
        panel.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", lw=2))
        ink = INK if found else MUTED
        if found and sum(colour[:3]) < 1.5:
            ink = "white"
        lines = [text] if found is None else [text + _short(found, places), _range(found, places)]
        middle = x + width / 2
        for number_, written in enumerate(lines):
            lower = 0.28 * (number_ - (len(lines) - 1) / 2)
            size = 8.5 if number_ == 0 else 6.5
            panel.text(
                middle, y + height / 2 + lower, written, ha="center", va="center", size=size,
                color=ink,
            )  # fmt: skip

    def shade(found: Estimate) -> Any:
        return colormaps["RdBu"](0.5 + 0.42 * found.value / reach)

    for row, first in enumerate(parts):
        for column, second in enumerate(parts):
            pair = (first, second) if row < column else (second, first)
            place: tuple[float, float, float, float] = (column, row, 1, 1)
            stack = known.get(pair)
            if row == column:
                box(place, "", one.over[first], (0.91, 0.91, 0.91))
            elif row < column and stack:
                box(place, "", stack.gain, shade(stack.gain))
            elif row < column:
                box(place, _why(pair, crossed), None, (0.97, 0.97, 0.97))
            elif stack and stack.order:
                box(place, "order ", negated(stack.order), (0.97, 0.97, 0.97))
    below = len(parts) + 0.2
    for place_, labels in enumerate(full):
        place = (0, below + BAR * place_, len(parts), BAR)
        text = legible(" + ".join(labels))
        if labels in known:
            box(place, f"{text}  ", known[labels].gain, shade(known[labels].gain))
        else:
            box(place, f"{text}  {_why(labels, crossed)}", None, (0.97, 0.97, 0.97))
    panel.set_xlim(0, len(parts))
    panel.set_ylim(below + BAR * len(full) if full else len(parts), 0)
    ticks = [i + 0.5 for i in range(len(parts))]
    panel.set_yticks(ticks, names or [""] * len(parts))
    over = [folded(legible(part)) for part in parts]
    short = max(map(len, over)) <= SHORT
    panel.set_xticks(ticks, over, rotation=0 if short else 20, ha="center" if short else "left")
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)
    title = legible(str(one.cell.spec.get("title") or one.cell.benchmark))
    panel.set_xlabel(f"{title}: {legible(one.metric)}", weight="bold", labelpad=8)


def _short(estimate: Estimate, places: int) -> str:
    return number(estimate.value, places, signed=True) + (SURE if estimate.excludes_zero else "")


def _range(estimate: Estimate, places: int) -> str:
    if estimate.low != estimate.low:
        return "no interval"
    low, high = (number(b, places, signed=True) for b in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def _why(labels: Labels, crossed: Crossed) -> str:
    return "refused" if labels in crossed.refused else "not run"
