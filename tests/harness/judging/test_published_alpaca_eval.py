"""The numbers of AlpacaEval's leaderboards, from the verdicts behind them."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from harness.judging import length_control
from harness.judging.preferences import head_to_head

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs AlpacaEval's published verdicts")

BOARDS = {
    "alpaca_eval_gpt4": "alpaca_eval_1.alpaca_eval_gpt4.csv",
    "alpaca_eval_cot_gpt4_turbo_fn": "alpaca_eval_2.alpaca_eval_cot_gpt4_turbo_fn.csv",
    "weighted_alpaca_eval_gpt4_turbo": "alpaca_eval_2.weighted_alpaca_eval_gpt4_turbo.csv",
}
NO_ROW = {("weighted_alpaca_eval_gpt4_turbo", "text_davinci_003")}  # judged, never on the board
RUNS = sorted((p.parent.name, p.name.split(".jsonl")[0]) for p in DATA.glob("annotations/*/*"))


def annotations(evaluator, model):
    """Read one model's verdicts."""
    with gzip.open(DATA / "annotations" / evaluator / f"{model}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def table(path):
    """Read a table by its first column."""
    with path.open(newline="") as file:
        return {row[""]: row for row in csv.DictReader(file)}


def board(evaluator):
    """Read a leaderboard by model."""
    return table(DATA / "leaderboards" / BOARDS[evaluator])


def difficulty():
    """Read the reconstructed difficulty of each of the 805 items, in order."""
    path = DATA / "length_control" / "instruction_difficulty.RECONSTRUCTED.csv"
    with path.open(newline="") as file:
        return [float(row["instruction_difficulty"]) for row in csv.DictReader(file)]


def test_every_set_of_verdicts_is_covered():
    """Twenty sets of verdicts, one of them without a published row."""
    assert len(RUNS) == 20
    assert {run for run in RUNS if run[1] not in board(run[0])} == NO_ROW


@pytest.mark.parametrize(("evaluator", "model"), [run for run in RUNS if run not in NO_ROW])
def test_rates_and_counts_equal_the_published_row(evaluator, model):
    """Win rate, discrete win rate, standard error, wins, draws and n, to 1e-9."""
    published = board(evaluator)[model]
    ours = head_to_head([row["preference"] for row in annotations(evaluator, model)])
    assert abs(ours.win_rate - float(published["win_rate"])) < 1e-9
    assert abs(ours.standard_error - float(published["standard_error"])) < 1e-9
    if published["discrete_win_rate"]:
        assert abs(ours.discrete_win_rate - float(published["discrete_win_rate"])) < 1e-9
    counts = ("n_wins", "n_wins_base", "n_draws", "n_total")
    assert (ours.wins, ours.wins_base, ours.draws, ours.total) == tuple(
        int(float(published[name])) for name in counts
    )


@pytest.mark.parametrize(
    ("evaluator", "model", "rows", "unjudged"),
    [
        ("weighted_alpaca_eval_gpt4_turbo", "alpaca-7b_concise", 804, 0),
        ("weighted_alpaca_eval_gpt4_turbo", "text_davinci_001", 803, 0),
        ("alpaca_eval_gpt4", "zephyr-7b-beta", 805, 2),
    ],
)
def test_missing_answers_and_failed_verdicts_are_kept_apart(evaluator, model, rows, unjudged):
    """Items without a verdict are counted, and enter no rate."""
    ours = head_to_head([row["preference"] for row in annotations(evaluator, model)])
    assert (ours.total + ours.unjudged, ours.unjudged) == (rows, unjudged)


def test_published_coefficients_give_the_published_length_controlled_rates():
    """Every model with coefficients and a rate, to 0.02 points, through our formula.

    Two rows miss by more, as the reconstruction of the items' difficulty does not fit them.
    """
    found = length_control.read_coefficients(
        DATA / "length_control" / "glm_weights.baseline_gpt4_1106_preview.csv"
    )
    published = board("weighted_alpaca_eval_gpt4_turbo")
    hard = difficulty()
    off = {
        model: length_control.predicted(one, hard)
        - float(published[model]["length_controlled_winrate"])
        for model, one in found.items()
        if model in published and published[model]["length_controlled_winrate"]
    }
    assert len(off) == 199
    beyond = {model: round(miss, 3) for model, miss in off.items() if abs(miss) > 0.02}
    assert beyond == {"dbrx-instruct": -0.18, "NullModel": -0.132}


WITH_RATE = [
    (evaluator, model)
    for evaluator, model in RUNS
    if board(evaluator).get(model, {}).get("length_controlled_winrate")
]


def adjusted(evaluator, model, *, by_position):
    """Refit one model; upstream joins difficulty by position, also where an item is missing."""
    rows, hard = annotations(evaluator, model), difficulty()
    return length_control.refit(
        [row["preference"] for row in rows],
        [row["len_1"] for row in rows],
        [row["len_2"] for row in rows],
        [hard[i if by_position else row["idx"]] for i, row in enumerate(rows)],
    ).rate


@pytest.mark.parametrize(("evaluator", "model"), WITH_RATE)
def test_our_own_refit_lies_near_the_published_length_controlled_rate(evaluator, model):
    """Within 1.5 points, difficulty joined as it was for the published rate."""
    rate = adjusted(evaluator, model, by_position=True)
    assert abs(rate - float(board(evaluator)[model]["length_controlled_winrate"])) < 1.5


@pytest.mark.parametrize(("evaluator", "model"), WITH_RATE)
def test_without_difficulties_the_refit_is_coarser(evaluator, model):
    """What a table shows where no difficulty is at hand: within 3.5 points."""
    rows = annotations(evaluator, model)
    found = length_control.refit(
        [row["preference"] for row in rows],
        [row["len_1"] for row in rows],
        [row["len_2"] for row in rows],
    )
    assert abs(found.rate - float(board(evaluator)[model]["length_controlled_winrate"])) < 3.5


def test_joining_difficulty_by_item_moves_a_row_with_missing_answers():
    """Two missing answers shift upstream's join: 9.03 is published, items joined give 5.8."""
    run = ("weighted_alpaca_eval_gpt4_turbo", "text_davinci_001")
    rates = [adjusted(*run, by_position=by_position) for by_position in (True, False)]
    assert [round(rate, 1) for rate in rates] == [8.1, 5.8]
