"""Score against budget: the exact expectation, and what is drawn from a folder of tunings."""

import csv
import subprocess
import sys
from itertools import combinations
from statistics import fmean

import pytest

from harness.conduct import store
from harness.ledger import Ledger
from harness.report import budget


def test_the_expected_best_is_the_mean_over_all_draws():
    """For every k it is the mean of the best over all subsets of k, to rounding."""
    scores = [0.3, -1.0, 2.5, 2.5, 0.0, 7.0]
    made = budget.expected_best(scores)
    for k in range(1, len(scores) + 1):
        listed = fmean(max(some) for some in combinations(scores, k))
        assert made[k - 1] == pytest.approx(listed, abs=1e-12)
    assert made[0] == pytest.approx(fmean(scores))
    assert made[-1] == 7.0


def planted(terms, method, scores, asked="00", objective="reward", trials=None):
    """Write what a tuning leaves behind."""
    folder = terms / method / store.digest([method, scores, asked])
    ledger = Ledger({"policy": 10, "reward": 5}, {}, {"decode": 2.0}).to_json()
    found = {
        "method": method,
        "objective": objective,
        "asked": asked,
        "prompts": 16,
        "trials": trials or len(scores),
        "scores": scores,
        "ledger": ledger,
    }
    store.write_json(folder / "tuned.json", found)
    return folder


def test_methods_are_drawn_together_and_the_numbers_stand_beside_the_figure(tmp_path):
    """One CSV line per method and number of settings; a failed setting counts as the worst."""
    terms = tmp_path / "tuned" / "tiny-00"
    first = planted(terms, "best_of_n", [1.0, 3.0, 2.0])
    planted(terms, "prompting+dpo", [0.0, None, 4.0])
    planted(terms, "elsewhere", [9.0], asked="01")
    planted(terms, "capped", [9.0], objective="reward@kl<=4")
    planted(terms, "hopeless", [None, None])
    table, svg, png = budget.write([first])
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert [(line["method"], line["k"]) for line in lines] == [
        ("best_of_n", "1"), ("best_of_n", "2"), ("best_of_n", "3"),
        ("prompting+dpo", "1"), ("prompting+dpo", "2"), ("prompting+dpo", "3"),
    ]  # fmt: skip
    expected = [float(line["expected_best"]) for line in lines]
    assert expected == pytest.approx([2.0, 8 / 3, 3.0, 4 / 3, 8 / 3, 4.0], abs=1e-5)
    assert [line["uncounted"] for line in lines] == ["0"] * 3 + ["1"] * 3
    assert {line["tokens"] for line in lines} == {"15"}
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert "prompting+dpo" in svg.read_text()
    before = png.read_bytes()
    assert budget.write([first])[-1].read_bytes() == before


def test_nothing_is_drawn_where_nothing_counts(tmp_path):
    """Tunings without a single setting that counts leave no figure."""
    folder = planted(tmp_path / "tuned" / "tiny-00", "hopeless", [None])
    assert budget.write([folder]) == []


def test_no_torch_is_loaded():
    """Score against budget is drawn from records alone; tuning itself loads Optuna late."""
    code = (
        "import harness.report.budget, harness.commands.tune, sys;"
        "print([m for m in ('torch', 'optuna', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
