"""Rows that are tuned before they are run: trials and tuned rows are foreseen together."""

import csv

from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import runner, store
from harness.conduct.forecast import forecasting, foretelling, trials
from harness.conduct.tuning import objective
from harness.conduct.tuning import search as tuning
from harness.report.rates import ANSWER, FIT


def plan(tiny, methods, count=2):
    """Plan a tuning on eight development prompts."""
    order = runner.order(methods, tiny, seeds="0")
    return tuning.plan(order, objective.parse("reward"), count, 8)


def forecast(tiny, results, methods, after):
    """Predict the rows, tuned and default, of one benchmark."""
    order = runner.order(methods, tiny, benchmarks="hh_rlhf", seeds="0,1", fit_seeds="0,1")
    return forecasting.forecast(
        order, store.Store(results), say=lambda _: None, device="cpu", fields="both", after=after
    )


def test_a_tuned_row_is_counted_before_it_is_tuned(tiny, tmp_path):
    """It is run like any other; without a tuning planned there is only the default row."""
    after = plan(tiny, "best_of_n")
    found = forecast(tiny, tmp_path, "best_of_n", after)
    rows = [line.row for line in found.lines if line.kind == ANSWER]
    assert sorted(set(rows)) == ["best_of_n", "best_of_n [tuned, 2 trials]", "unsteered"]
    assert rows.count("best_of_n") == rows.count("best_of_n [tuned, 2 trials]") == 2
    alone = forecast(tiny, tmp_path, "best_of_n", None)
    assert {line.row for line in alone.lines} == {"best_of_n", "unsteered"}


def test_a_row_that_was_tuned_is_counted_once(tiny, tmp_path):
    """Its fields are known by then, and so is what it costs with them."""
    after = plan(tiny, "best_of_n")
    tuning.tune(after, store.Store(tmp_path), say=lambda _: None, device="cpu")
    found = forecast(tiny, tmp_path, "best_of_n", after)
    tuned = [line.row for line in found.lines if "tuned" in line.row]
    assert len(tuned) == 2
    assert "?" not in "".join(part for line in found.lines for part in line.parts)


def test_the_fit_that_tuning_makes_is_not_made_again(tiny, tmp_path):
    """Trials leave the fit of their own seed behind: the row needs those of other seeds."""
    found = forecast(tiny, tmp_path, "static_editing", plan(tiny, "static_editing"))
    fits = [(line.parts, line.fit_seed) for line in found.lines if line.kind == FIT]
    assert fits.count((("static_editing",), 0)) == fits.count((("static_editing",), 1)) == 1
    assert [seed for parts, seed in fits if parts == ("static_editing(?)",)].count(1) == 1
    assert (("static_editing(?)",), 0) not in fits


def test_a_tuning_and_what_follows_add_up(tiny, tmp_path):
    """One command's lines stand before the other's, and several processes share their time."""
    after = plan(tiny, "best_of_n")
    first = trials.foresee(after, store.Store(tmp_path), say=lambda _: None, device="cpu")
    then = forecast(tiny, tmp_path, "best_of_n", after)
    both = first.then(then)
    assert both.lines == (*first.lines, *then.lines)
    assert both.total.total > then.total.total
    whole = list(foretelling.told(both, 2))[-1]
    half = foretelling.duration(foretelling.SHARED * both.seconds / 2)
    assert (
        f"{foretelling.duration(both.seconds)} of one process, about {half} of 2 at once" in whole
    )


def test_bench_tunes_first_and_leaves_tables_for_later(tiny, tmp_path):
    """One command chooses the fields and runs both rows; `tables` writes the tables."""
    words = ("--method", "best_of_n", "--protocol", tiny, "--output_path", str(tmp_path))
    more = ("--tune_first", "best_of_n", "--fields", "both", "--limit", "3", "--bench", "hh_rlhf")
    result = CliRunner().invoke(app, ["bench", *words, *more, "--no-tables"])
    assert result.exit_code == 0, result.output
    assert "tuned on reward by" in result.stdout
    assert not (tmp_path / "tables").exists()
    result = CliRunner().invoke(app, ["tables", "--output_path", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (table,) = tmp_path.glob("tables/*/hh_rlhf.csv")
    with table.open(newline="") as file:
        rows = [line["method"] for line in csv.DictReader(file)]
    assert sorted(row.partition(" [")[0].partition("(")[0] for row in rows) == [
        "best_of_n", "best_of_n", "unsteered",
    ]  # fmt: skip
