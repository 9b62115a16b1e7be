import numpy as np
import pytest
from toystore import run_spec, write_run

from harness.report.comparison import compare
from harness.report.frames import read_cell
from harness.report.tables import write_tables

CELL = "runs/toy-7c0d1e44b2/hh_rlhf"
COUNT = 48
JUDGE = "win_rate@j"
BASE = np.zeros(COUNT)


def verdict(first, second):
    """A score of two orders, as a judge's scorer leaves it."""
    return {
        "value": (first + second) / 2,
        "outcome": "tie" if first == second == 0.5 else "ok",
        "parts": {"order_0": first, "order_1": second, "inconsistent": float(first != second)},
    }


def compared(results, ours, said, base=None, extra=None):
    """Write the reference and one row; give the row's result."""
    tie = {"value": 0.5, "outcome": "tie"}
    scores = {"gold": BASE.tolist(), JUDGE: [tie] * COUNT if base is None else base}
    write_run(results, run_spec("hh_rlhf", "unsteered"), scores, prompts=COUNT)
    scores = {"gold": list(ours), JUDGE: said} | (extra or {})
    write_run(results, run_spec("hh_rlhf", "prompting"), scores, prompts=COUNT)
    found = compare(read_cell(results / CELL), resamples=500)
    return found.results[1]


def test_two_orders_are_one_observation(tmp_path):
    """A third of the pairs split: each is a half in the rate, none in the strict rate."""
    said = [verdict(1, 1), verdict(1, 0), verdict(0, 0)] * (COUNT // 3)
    row = compared(tmp_path, BASE + 1, said)
    found = row.verdicts[JUDGE]
    assert row.means[JUDGE].value == pytest.approx(0.5)
    assert found.kinds == {"won": 16, "tied": 0, "split": 16, "lost": 16}
    assert found.strict.value == pytest.approx(1 / 3)
    assert (found.p, found.test) == (1.0, "McNemar")


def test_wins_are_held_against_losses_where_the_reference_is_the_opponent(tmp_path):
    """The reference's ties with itself are no verdicts on it: all wins and losses count."""
    said = [verdict(1, 1), verdict(0, 0)] * (COUNT // 2)
    assert compared(tmp_path, BASE, said).verdicts[JUDGE].p == 1.0


def test_a_reference_with_verdicts_of_its_own_is_paired(tmp_path):
    """Against a third opponent the same verdicts on both rows are no evidence at all."""
    said = [verdict(1, 1), verdict(1, 1), verdict(0, 0)] * (COUNT // 3)
    row = compared(tmp_path, BASE, said, base=said)
    assert row.verdicts[JUDGE].p == 1.0
    assert JUDGE not in row.trust


def test_a_judge_is_held_against_gold_on_the_rows_own_answers(tmp_path):
    """Gold wins are answers above the reference's; agreement counts won, tied and lost."""
    gold = np.tile([1.0, 1.0, 1.0, -1.0], COUNT // 4)
    said = [verdict(1, 1), verdict(1, 1), verdict(0, 0), verdict(0, 0)] * (COUNT // 4)
    found = compared(tmp_path, gold, said).trust[JUDGE]
    assert found.source == "gold"
    assert found.truth.value == pytest.approx(0.75)
    assert found.agreement == pytest.approx(0.75)
    assert found.kappa == pytest.approx(0.5)
    assert found.corrected.labelled == COUNT // 4
    assert found.corrected.rate.low <= 0.75 <= found.corrected.rate.high


def test_peoples_labels_go_before_gold(tmp_path):
    """A row that people labelled in part is corrected by those labels."""
    said = [verdict(1, 1), verdict(0, 0)] * (COUNT // 2)
    labels = [float(i % 2 == 0) if i < 20 else None for i in range(COUNT)]
    found = compared(tmp_path, BASE + 1, said, extra={"label": labels}).trust[JUDGE]
    assert found.source == "label"
    assert found.truth.value == 0.5
    assert found.corrected.labelled == 20
    assert found.corrected.slope == pytest.approx(1.0)


def test_mcnemar_is_the_test_of_a_headline_that_is_a_win_rate(tmp_path):
    """With gold as headline signs are flipped; with a win rate McNemar's test is reported."""
    said = [verdict(1, 1)] * 40 + [verdict(0, 0)] * 8
    row = compared(tmp_path / "gold", np.tile([1.0, -0.5], COUNT // 2), said)
    assert row.test == "sign flips"
    for method, scores in (("unsteered", {"reward": [0.0] * COUNT}), ("prompting", {JUDGE: said})):
        spec = run_spec("hh_rlhf", method, headlines=["win_rate"])
        write_run(tmp_path / "rate", spec, scores, prompts=COUNT)
    found = compare(read_cell(tmp_path / "rate" / CELL), resamples=500).results[1]
    assert (found.test, found.p) == ("McNemar", found.verdicts[JUDGE].p)


def test_the_overall_page_counts_how_often_intervals_hold_the_truth(tmp_path):
    """A judge that is always wrong is outside in its own interval and inside when corrected."""
    gold = np.tile([1.0, 1.0, 1.0, -1.0], COUNT // 4)
    said = [verdict(0, 0) if g > 0 else verdict(1, 1) for g in gold]
    compared(tmp_path, gold, said)
    write_tables(tmp_path, "toy")
    text = (tmp_path / "tables" / "toy" / "overall.md").read_text("utf-8")
    assert "j: the judge's own interval holds the win rate by gold in 0 of 1 rows" in text
    assert "the corrected one in 1 of 1" in text
