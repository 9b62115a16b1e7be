"""Grades by category and turn, and their chart."""

import json

import numpy as np
import pytest
from toystore import run_spec, write_run

from harness.report.categories import by_category, category_grids, draw_radar
from harness.report.comparison import compare
from harness.report.frames import read_cell
from harness.report.tables import write_tables

CATEGORIES = ("math", "writing", "stem")


def comparison(tmp_path, *, categories=CATEGORIES, turns=2, scorer="grade@judge"):
    """Make two rows over nine questions whose grades rise from question to question."""
    for method, shift in (("unsteered", 0.0), ("prompting", 1.0)):
        grades = [1.0 + shift + i / 2 + 3 * (i % turns) for i in range(9 * turns)]
        grades[0] = None
        folder = write_run(
            tmp_path, run_spec("mt_bench", method), {scorer: grades}, prompts=9, turns=turns
        )
        lines = [json.loads(x) for x in (folder / "prompts.jsonl").read_text().splitlines()]
        for i, line in enumerate(lines):
            line["category"] = categories[i % len(categories)] if categories else None
        (folder / "prompts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return compare(read_cell(folder.parent.parent))


def test_means_are_of_the_category_and_of_the_turn(tmp_path):
    """Every part is the plain mean of its own grades; an unread one enters none."""
    (table,) = by_category(comparison(tmp_path))
    assert table.parts == ("math", "stem", "writing", "turn 1", "turn 2", "all")
    means = {result.row.label: found for result, found in table.rows}["unsteered"]
    grades = np.array([1.0 + i / 2 + 3 * (i % 2) for i in range(18)])
    grades[0] = np.nan
    question, turn = np.arange(18) // 2, np.arange(18) % 2
    assert means["math"].value == pytest.approx(np.nanmean(grades[question % 3 == 0]))
    assert means["turn 1"].value == pytest.approx(np.nanmean(grades[turn == 0]))
    assert means["turn 2"].value == pytest.approx(np.nanmean(grades[turn == 1]))
    assert means["all"].value == pytest.approx(np.nanmean(grades))
    assert means["all"].n == 17


def test_without_grades_the_headline_is_split(tmp_path):
    """A benchmark of several turns has the table whatever measures it."""
    (table,) = by_category(comparison(tmp_path, scorer="gold"))
    assert table.scorer == "gold"


@pytest.mark.parametrize("given", [{"categories": ()}, {"turns": 1}, {"categories": ("one",)}])
def test_nothing_is_split_without_turns_or_categories(tmp_path, given):
    """One turn, no category or a single one: there is nothing to tell apart."""
    found = comparison(tmp_path, **given)
    assert by_category(found) == []
    assert category_grids(found, by_category(found)) == []
    assert draw_radar(found, by_category(found), tmp_path) == []


def test_the_table_and_the_chart_stand_on_the_page(tmp_path):
    """Written with the other tables; drawing twice gives the same bytes."""
    comparison(tmp_path)
    written = {path.name: path for path in write_tables(tmp_path, "toy")}
    page = written["mt_bench.md"].read_text()
    assert "By category and turn: grade by judge" in page
    assert "mt_bench.categories.png" in page
    before = written["mt_bench.categories.svg"].read_bytes()
    write_tables(tmp_path, "toy")
    assert written["mt_bench.categories.svg"].read_bytes() == before


def test_a_wheel_of_many_rows_shows_the_best(tmp_path, monkeypatch):
    """More lines than can be told apart are not drawn; the legend says how many there are."""
    from harness.report import categories

    monkeypatch.setattr(categories, "LINES", 1)
    found = comparison(tmp_path)
    tables = by_category(found)
    (svg,) = [path for path in draw_radar(found, tables, tmp_path) if path.suffix == ".svg"]
    means = {r.row.label: parts["all"].value for r, parts in tables[0].rows}
    drawn, count = max(means, key=means.get), len(means)
    text = svg.read_text()
    assert f"the best 1 of {count} rows" in text
    assert drawn in text
    assert not any(label in text for label in set(means) - {drawn})
