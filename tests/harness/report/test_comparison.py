import math

import numpy as np
import pytest
from toystore import run_spec, wave, write_run, write_skip

from harness.report.columns import tuning
from harness.report.comparison import choose_headline, compare
from harness.report.cost.costs import seconds_ratio, tokens_ratio
from harness.report.frames import read_cell

CELL = "runs/toy-7c0d1e44b2/hh_rlhf"
COUNT = 24
BASE = np.array(wave(COUNT, 0.0))


def add(results, method, gold, scorers=None, prompts=COUNT, **changes):
    """Write one row with its gold values."""
    spec = run_spec("hh_rlhf", method, **changes)
    write_run(results, spec, {"gold": list(gold)} | (scorers or {}), prompts=prompts)


def compared(results, **options):
    """Compare the toy benchmark with few resamples; give its rows by label."""
    found = compare(read_cell(results / CELL), resamples=2000, **options)
    return found, {r.row.label: r for r in found.results}


def test_differences_and_ranks_follow_the_pairs(tmp_path):
    """Rows told apart have places of their own; rows that overlap share theirs."""
    add(tmp_path, "unsteered", BASE)
    add(tmp_path, "another_seed", BASE + np.tile([0.5, -0.5], COUNT // 2))
    add(tmp_path, "prompting", BASE + 1)
    comparison, rows = compared(tmp_path)
    assert comparison.headline == "gold"
    assert rows["prompting"].difference.value == pytest.approx(1)
    assert rows["prompting"].rank == (1, 1)
    assert rows["unsteered"].rank == rows["another_seed"].rank == (2, 3)
    assert rows["unsteered"].why == "reference"
    assert not rows["another_seed"].difference.excludes_zero
    assert rows["prompting"].p < 0.001
    assert rows["prompting"].p_holm == pytest.approx(2 * rows["prompting"].p)


def test_a_worse_row_stands_below_the_reference(tmp_path):
    """The sign of a difference does not depend on the order of the rows."""
    add(tmp_path, "unsteered", BASE)
    add(tmp_path, "aaa", BASE - 1)
    _, rows = compared(tmp_path)
    assert rows["aaa"].difference.value == pytest.approx(-1)
    assert rows["aaa"].difference.high < 0
    assert (rows["aaa"].rank, rows["unsteered"].rank) == ((2, 2), (1, 1))


def test_rows_over_other_items_have_no_difference(tmp_path):
    """Other prompts: no difference, no rank, and the reason."""
    add(tmp_path, "unsteered", BASE)
    add(tmp_path, "prompting", BASE + 1)
    add(tmp_path, "short", BASE[:8] + 5, prompts=8, limit=8, marks=["limited"])
    comparison, rows = compared(tmp_path)
    assert rows["short"].why == "items differ"
    assert rows["short"].rank is None
    assert rows["short"].headline.n == 8
    assert comparison.ranked == 2


def test_rows_tuned_with_other_trials_are_not_ranked(tmp_path):
    """A difference is shown, an order is not; a row with nothing to tune is exempt."""
    add(tmp_path, "unsteered", BASE)
    add(tmp_path, "prompting", BASE + 1)
    add(tmp_path, "recontrol", BASE + 2, tuning={"trials": 9, "objective": "reward"})
    comparison, rows = compared(tmp_path)
    assert comparison.withheld
    assert rows["recontrol"].rank == rows["prompting"].rank == (1, 2)
    assert rows["unsteered"].rank == (3, 3)


def test_what_a_fit_tried_itself_counts_as_trials(tmp_path):
    """A method that chose its strength in its fit is held only against rows with as many trials."""
    eight = {"trials": 8, "objective": "reward"}
    add(tmp_path, "unsteered", BASE)
    add(tmp_path, "prompting", BASE + 1)
    add(tmp_path, "recontrol", BASE + 2, tuning={"trials": 0, "objective": "reward", "fit": 8})
    add(tmp_path, "dpo", BASE + 3, tuning=eight)
    add(tmp_path, "alignez", BASE + 4, tuning={**eight, "objective": "reward@kl<=4"})
    comparison, rows = compared(tmp_path)
    assert comparison.withheld
    assert tuning(rows["recontrol"]) == "8 in its fit on reward"
    assert tuning(rows["alignez"]) == "8 on reward@kl<=4"
    assert rows["dpo"].rank == (1, 3)  # ahead of recontrol alone
    assert rows["recontrol"].rank == (2, 4)
    assert rows["prompting"].rank == rows["alignez"].rank == (1, 4)


def test_missing_scores_leave_the_pair_out(tmp_path):
    """A value that either side lacks does not enter the difference, and is counted."""
    add(tmp_path, "unsteered", [None, *BASE[1:]])
    add(tmp_path, "prompting", [*(BASE[:-1] + 1), None])
    _, rows = compared(tmp_path)
    assert rows["prompting"].difference.n == COUNT - 2
    assert rows["prompting"].headline.n == COUNT - 1
    assert rows["prompting"].row.outcomes("gold")["unparsed"] == 1


def test_the_headline_is_the_first_that_all_rows_have(tmp_path):
    """Gold missing in one row gives way to the next declared scorer."""
    verdicts = {"win_rate@j": [1.0] * COUNT}
    add(tmp_path, "unsteered", BASE)
    write_run(tmp_path, run_spec("hh_rlhf", "prompting"), verdicts, prompts=COUNT)
    assert choose_headline(read_cell(tmp_path / CELL)) == "win_rate@j"


def test_a_reference_without_verdicts_is_even_with_itself(tmp_path):
    """Two wins in three against unsteered are a sixth above even."""
    spec = {"headlines": ["win_rate"]}
    add(tmp_path, "unsteered", BASE, **spec)
    wins = [1.0, 1.0, 0.0] * (COUNT // 3)
    add(tmp_path, "prompting", BASE, {"win_rate@j": wins}, **spec)
    _, rows = compared(tmp_path)
    assert rows["prompting"].difference.value == pytest.approx(1 / 6)
    assert rows["unsteered"].rank is not None
    assert math.isnan(rows["unsteered"].headline.value)
    assert rows["prompting"].verdicts["win_rate@j"].strict.value == pytest.approx(2 / 3)


def test_an_optimised_reward_is_never_the_headline(tmp_path):
    """With nothing but the granted reward there is no headline and no difference."""
    for method, shift in (("unsteered", 0), ("prompting", 1)):
        spec = run_spec("hh_rlhf", method, optimised=True)
        scores = {"reward": list(BASE + shift), "optimised_reward": list(BASE)}
        write_run(tmp_path, spec, scores, prompts=COUNT)
    comparison, rows = compared(tmp_path)
    assert comparison.headline == ""
    assert rows["prompting"].difference is None
    assert rows["prompting"].why == "no headline"
    assert rows["prompting"].means["reward"].value == pytest.approx(BASE.mean() + 1)


def test_an_independent_reward_may_be_the_headline(tmp_path):
    """A reward that nothing optimises is a headline like any other."""
    for method in ("unsteered", "prompting"):
        spec = run_spec("hh_rlhf", method, optimised=False)
        write_run(tmp_path, spec, {"reward": list(BASE)}, prompts=COUNT)
    assert choose_headline(read_cell(tmp_path / CELL)) == "reward"


def test_without_the_reference_there_are_means_and_no_differences(tmp_path):
    """A cell in which unsteered was not run says so."""
    add(tmp_path, "prompting", BASE)
    _, rows = compared(tmp_path)
    assert rows["prompting"].why == "no unsteered run"
    assert rows["prompting"].headline.value == pytest.approx(BASE.mean())


def test_one_item_is_a_number_without_an_interval(tmp_path):
    """The smallest run possible makes a table."""
    add(tmp_path, "unsteered", [1.0], prompts=1)
    add(tmp_path, "prompting", [3.0], prompts=1)
    write_skip(tmp_path, "hh_rlhf", "dpo", "no pairs")
    _, rows = compared(tmp_path)
    assert rows["prompting"].difference.value == 2
    assert math.isnan(rows["prompting"].difference.low)
    assert rows["prompting"].rank == (1, 2)
    assert rows["dpo"].why == "skipped: no pairs"


def test_fits_widen_the_difference(tmp_path):
    """With three fits that disagree the interval includes their spread."""
    add(tmp_path, "unsteered", BASE)
    for fit, shift in (("aa", -1.0), ("bb", 0.5), ("cc", 2.0)):
        add(tmp_path, "recontrol", BASE + shift, fits=[fit])
    _, rows = compared(tmp_path)
    found = rows["recontrol"].difference
    assert rows["recontrol"].row.fits == 3
    assert found.value == pytest.approx(0.5)
    assert found.low < 0 < found.high


def test_cost_counts_every_model_and_only_decoding(tmp_path):
    """Tokens of policy and reward count, scoring does not."""
    gold = {"gold": list(BASE)}
    spec = run_spec("hh_rlhf", "unsteered")
    write_run(tmp_path, spec, gold, prompts=COUNT, tokens={"policy": 240}, seconds=2.0)
    spec = run_spec("hh_rlhf", "best_of_n")
    spent = {"policy": 480, "reward": 240}
    write_run(tmp_path, spec, gold, prompts=COUNT, tokens=spent, seconds=5.0)
    _, rows = compared(tmp_path)
    cost, floor = rows["best_of_n"].cost, rows["unsteered"].cost
    assert cost.tokens == {"policy": 20.0, "reward": 10.0}
    assert tokens_ratio(cost, floor) == pytest.approx(3)
    assert seconds_ratio(cost, floor) == pytest.approx(2.5)
