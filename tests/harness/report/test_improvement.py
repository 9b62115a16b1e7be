"""Net win rates and Relative Improvement: property 12 of AlignEZ's acceptance list."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from harness.report.columns import further_columns
from harness.report.comparison import Comparison, Result
from harness.report.frames import Cell, Row
from harness.report.improvement import gap_closed, net, relative_improvement
from harness.report.statistics import Estimate

JUDGE = "win_rate@judge"


def test_12_net_is_wins_less_losses():
    """12: a tie counts for neither; swapping the systems turns the sign; against itself it is 0."""
    verdicts = np.array([1, 1, 1, 0.5, 0, math.nan])
    assert net(float(np.nanmean(verdicts))) == pytest.approx(100 * (3 - 1) / 5)
    assert net(float(np.nanmean(1 - verdicts))) == pytest.approx(-40)
    assert net(0.5) == 0


def test_12_improvement_is_relative_to_the_aligned_model():
    """12: 100 where a method is the aligned model, 0 where it is the base, None without a gain."""
    assert relative_improvement(24.0, 24.0) == 100
    assert relative_improvement(0.0, 24.0) == 0
    assert relative_improvement(-6.0, 24.0) == -25
    for undefined in (0.0, -3.0, math.nan):
        assert relative_improvement(5.0, undefined) is None
    assert relative_improvement(math.nan, 5.0) is None


def test_12_the_published_table_is_reproduced():
    """12: the mean net win rate of the published cells is 7.21, and 87.5 % are positive."""
    wins = (41, 32.3, 43.9, 23.6, 50, 30.4, 44.1, 14.4, 39, 45.9, 33.3, 25.5, 31.8, 52.2, 33.8, 4)
    losses = (38.4, 29, 36.4, 25.82, 30.1, 23.2, 39.7, 11.1, 29.3, 33.8, 24.6, 16.3, 20.5, 34.8)
    losses = (*losses, 33.8, 3)
    nets = [net((w + (100 - w - lost) / 2) / 100) for w, lost in zip(wins, losses, strict=True)]
    assert sum(nets) / len(nets) == pytest.approx(7.21, abs=0.01)
    assert sum(value > 1e-9 for value in nets) / len(nets) == 0.875


def result(label, rate, difference):
    """Make a row's line."""
    run = SimpleNamespace(spec={}, fit=(), scores={})
    means = {JUDGE: Estimate(rate)}
    return Result(Row(label, (run,)), means, difference=Estimate(difference))


def comparison(*results):
    """Make a table of them."""
    return Comparison(Cell("toy", tuple(r.row for r in results)), "gold", ("gold", JUDGE), results)


def test_rows_say_how_much_of_the_gap_they_close():
    """Each measure has its share where the aligned model gains by it, and None where not."""
    mine, aligned = result("alignez", 0.55, 0.2), result("aligned", 0.7, 0.8)
    table = comparison(mine, aligned)
    assert gap_closed(mine, table) == pytest.approx({JUDGE: 25, "gold": 25})
    assert gap_closed(aligned, table) == pytest.approx({JUDGE: 100, "gold": 100})
    worse = comparison(mine, result("aligned", 0.4, 0.8))
    assert gap_closed(mine, worse) == {JUDGE: None, "gold": pytest.approx(25)}


def test_without_an_aligned_row_nothing_is_said():
    """Tables without the aligned model have no such numbers."""
    mine = result("alignez", 0.55, 0.2)
    assert gap_closed(mine, comparison(mine)) == {}
    skipped = Result(Row("aligned", skipped="not granted"))
    assert gap_closed(mine, comparison(mine, skipped)) == {}


def test_the_table_has_a_column_for_it():
    """With an aligned row the further measurements show the share, a dash where undefined."""
    mine, aligned = result("alignez", 0.55, 0.2), result("aligned", 0.7, 0.0)
    columns = {c.header: c for c in further_columns(comparison(mine, aligned))}
    shown = [c for header, c in columns.items() if header.startswith("gap closed")]
    assert [c.cell(mine)[0].text for c in shown] == ["25 %", "–"]
    assert not [h for h in (c.header for c in further_columns(comparison(mine))) if "gap" in h]
