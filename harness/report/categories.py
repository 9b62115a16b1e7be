"""Questions by category and by turn, as MT-Bench is read, and the radar chart of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.report.columns import NONE, decimals, heading, in_order, labelled, plus_minus
from harness.report.comparison import Comparison, Result, judged
from harness.report.markup import Grid, line
from harness.report.statistics import Contrast, Estimate, bootstrap, identity_seed

LINES = 8  # more rows than these cannot be told apart on a wheel
MOST = 12  # more categories than these make no chart and no readable table
ALL = "all"


@dataclass(frozen=True)
class ByCategory:
    """One scorer's means of every row: by category, by turn, and over all.

    parts  names of the columns, categories first.
    """

    scorer: str
    categories: tuple[str, ...]
    parts: tuple[str, ...]
    rows: tuple[tuple[Result, Mapping[str, Estimate]], ...]


def by_category(comparison: Comparison) -> list[ByCategory]:
    """Split grades, win rates and the headline where questions have several turns.

    Nothing is split where no question has a category, or there are too many of them.
    """
    found = _categories(comparison)
    names = sorted({name for name in found.values() if name})
    turns = sorted({turn for r in comparison.results for _, turn in r.row.answered})
    if len(turns) < 2 or not 1 < len(names) <= MOST:
        return []
    told = [s for s in in_order(comparison.scorers) if judged(s) or s.partition("@")[0] == "grade"]
    wanted = dict.fromkeys(told + [comparison.headline] * bool(comparison.headline))
    return [_split(comparison, scorer, found, names, turns) for scorer in wanted]


def category_grids(comparison: Comparison, found: Sequence[ByCategory]) -> list[Grid]:
    """Give a grid for each of them."""
    grids = []
    for table in found:
        places = decimals(e for _, means in table.rows for e in means.values())
        grids.append(
            Grid(
                f"By category and turn: {heading(comparison, table.scorer)}",
                ("method", *table.parts),
                tuple(
                    (
                        labelled(result),
                        *(
                            line(plus_minus(means[p], places) if p in means else NONE)
                            for p in table.parts
                        ),
                    )
                    for result, means in table.rows
                ),
            )
        )
    return grids


def draw_radar(comparison: Comparison, found: Sequence[ByCategory], out: Path) -> list[Path]:
    """Draw categories as the spokes of a wheel, one line a row; PNG and SVG."""
    from harness.report.figures import folded, legible, on_paper, save

    tables = [table for table in found if len(table.categories) > 2]
    if not tables:
        return []
    with on_paper():
        from matplotlib.figure import Figure

        labels, count = _lines(tables[0]), len(tables[0].rows)
        figure = Figure(figsize=(5.2 * len(tables) + 1.6, 4.6), layout="constrained")
        panels = figure.subplots(1, len(tables), squeeze=False, subplot_kw={"projection": "polar"})[
            0
        ]
        for panel, table in zip(panels, tables, strict=True):
            angles = np.linspace(0, 2 * np.pi, len(table.categories), endpoint=False)
            rows = {result.row.label: means for result, means in table.rows}
            for i, label in enumerate(one for one in labels if one in rows):
                means = rows[label]
                values = [means[name].value for name in table.categories]
                panel.plot(
                    [*angles, angles[0]],
                    [*values, values[0]],
                    color=f"C{i % 10}",
                    linewidth=1.4,
                    label=folded(legible(label)),
                )
            panel.set_xticks(angles, [legible(name) for name in table.categories], fontsize=8)
            panel.tick_params(axis="y", labelsize=7)
            panel.set_title(legible(heading(comparison, table.scorer)), fontsize=10)
        panels[-1].legend(
            frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.15, 0.5),
            title=f"the best {len(labels)} of {count} rows" if len(labels) < count else None,
        )  # fmt: skip
        return save(figure, out / f"{comparison.cell.benchmark}.categories")


def _lines(table: ByCategory) -> list[str]:
    """Give the rows that are drawn: all, or the best where there are too many to tell apart."""
    means = {
        result.row.label: float(np.mean([own[name].value for name in table.categories]))
        for result, own in table.rows
    }
    if len(means) <= LINES:
        return list(means)
    best = sorted(means, key=lambda label: -np.nan_to_num(means[label], nan=-np.inf))
    return sorted(best[:LINES])


def _split(
    comparison: Comparison,
    scorer: str,
    found: Mapping[str, str],
    names: Sequence[str],
    turns: Sequence[int],
) -> ByCategory:
    parts = (*names, *(f"turn {turn + 1}" for turn in turns), ALL)
    rows = []
    for result in comparison.results:
        row = result.row
        if scorer not in {s for run in row.runs for s in run.scores}:
            continue
        values, keys = row.values(scorer), row.answered
        masks = [
            *([found.get(prompt) == name for prompt, _ in keys] for name in names),
            *([turn == wanted for _, turn in keys] for wanted in turns),
            [True] * len(keys),
        ]
        split = bootstrap(
            [Contrast(np.where(np.array(mask), values, np.nan)) for mask in masks],
            row.clusters,
            seed=identity_seed("categories", *sorted(row.clusters)),
        )
        rows.append((result, dict(zip(parts, split, strict=True))))
    return ByCategory(scorer, tuple(names), parts, tuple(rows))


def _categories(comparison: Comparison) -> dict[str, str]:
    """Give the category of every prompt that has one."""
    found: dict[str, str] = {}
    for result in comparison.results:
        for run in result.row.runs[:1]:
            found = {**run.categories, **found}
    return {name: category for name, category in found.items() if category}
