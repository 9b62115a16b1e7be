"""The published agreement of judges with LLMBar's labels, from the verdicts behind it."""

import gzip
import json
from pathlib import Path

import pytest

from harness.judging.agreement import both_orders, kappa

DATA = Path(__file__).parents[4] / "shared" / "data" / "judge_calibration" / "llmbar"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs LLMBar's published verdicts")

PUBLISHED = DATA / "published_statistics.json"
STATISTICS = json.loads(PUBLISHED.read_text("utf-8")) if PUBLISHED.exists() else {}
HERE = sorted(n for n in STATISTICS if (DATA / f"{n.split('|')[0]}.jsonl.gz").exists())


def verdicts(name):
    """Read the labels and a judge's verdicts in both orders."""
    kind, judge = name.split("|")
    with gzip.open(DATA / f"{kind}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    said = [row["judges"][judge] for row in rows]
    return (
        [str(row["label"]) for row in rows],
        [one["winner_unswapped"] for one in said],
        [one["winner_swapped"] for one in said],
    )


def coded(winners):
    """Code verdicts as upstream does before it takes kappa: "1" is 1, all else, None too, is 0."""
    return [int(winner == "1") for winner in winners]


def test_all_eight_judges_of_the_human_majority_set_are_here():
    """Four models with two prompts each."""
    assert sum(name.startswith("mt_bench_human_majority_200|") for name in HERE) == 8


@pytest.mark.parametrize("name", HERE)
def test_published_agreement_reproduces(name):
    """Accuracies, order consistency and kappas; a published label is 1 or 2, a verdict 1 or 0."""
    published = STATISTICS[name]
    labels, straight, swapped = verdicts(name)
    ours = both_orders(labels, straight, swapped)
    counts = (ours.right, ours.right_swapped, ours.right_both, ours.consistent)
    names = ("correct_False", "correct_True", "correct_both", "equal")
    assert [f"{c} / {ours.n} = {c / ours.n * 100}%" for c in counts] == [
        published[n] for n in names
    ]
    numbers = [int(label) for label in labels]
    first, second = kappa(coded(straight), numbers), kappa(coded(swapped), numbers)
    assert first == pytest.approx(published["kappa_False"], abs=1e-12)
    assert second == pytest.approx(published["kappa_True"], abs=1e-12)
    assert (first + second) / 2 == pytest.approx(published["kappa_average"], abs=1e-12)
    assert kappa(coded(straight), coded(swapped)) == pytest.approx(
        published["kappa_agreement"], abs=1e-12
    )
