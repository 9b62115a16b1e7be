"""The bill of every method, by numbers that can be checked by hand."""

import csv
import json
import math

import pytest
from toystore import HASH, run_spec, write_run

from harness.report.comparison import compare
from harness.report.cost.bills import bills, cheaper, points_of
from harness.report.cost.costs import at_cost, break_even, on_front
from harness.report.cost.page import amount
from harness.report.frames import read_cell
from harness.report.tables import write_tables
from harness.report.terms import choose_terms

TERMS = f"toy-{HASH}"
PROMPTS = 12


def row(results, method, gold, tokens, *, fits=(None,), benchmark="hh_rlhf", **changes):
    """Write the runs of one row, one a fit; ``tokens`` are of one answer."""
    for seed, fit in enumerate(fits):
        spec = run_spec(benchmark, method, fits=[fit], fit_seeds=[seed], **changes)
        write_run(
            results,
            spec,
            {"gold": [gold + 0.1 * (i % 3) for i in range(PROMPTS)]},
            prompts=PROMPTS,
            tokens={role: n * PROMPTS for role, n in tokens.items()},
            seconds=6.0,
        )


def fitted(results, stack, name, tokens, seconds, **more):
    """Write the folder of a fit: a ledger, and a file of 1000 bytes."""
    folder = results / "fits" / TERMS / stack / name
    folder.mkdir(parents=True)
    ledger = {"tokens": tokens, "forwards": {"policy": 4}, "seconds": {"fit": seconds}, "peak": 0}
    (folder / "ledger.jsonl").write_text(json.dumps(ledger | {"phase": "fit"} | more) + "\n")
    (folder / "fitted.safetensors").write_bytes(b"0" * 1000)
    return folder


@pytest.fixture
def results(tmp_path):
    """Give a folder of rows: cheap to fit and dear to ask, and the other way round."""
    row(tmp_path, "unsteered", 0.0, {"policy": 100})
    row(tmp_path, "best_of_n", 1.0, {"policy": 800, "reward": 800})
    row(tmp_path, "recontrol", 0.5, {"policy": 80, "value": 20}, fits=("aa", "bb"))
    fitted(tmp_path, "recontrol", "aa", {"policy": 30_000, "reward": 2_000}, 3.0, labels=50)
    fitted(tmp_path, "recontrol", "bb", {"policy": 26_000, "reward": 2_000}, 5.0, labels=50)
    return tmp_path


def found(results):
    """Give every bill by name."""
    terms = choose_terms(results, "toy")
    cells = [read_cell(folder) for folder in terms.benchmarks]
    return {bill.label: bill for bill in bills(results, terms, [compare(c) for c in cells])}


def test_tokens_are_counted_model_by_model(results):
    """Every model's tokens are of one answer, and what scoring took stands apart."""
    bill = found(results)["recontrol"]
    assert bill.answer.tokens == {"policy": 80, "value": 20}
    assert bill.answer.total == 100
    assert bill.scoring == {"reward": pytest.approx(999 / PROMPTS)}
    assert bill.answer.seconds == pytest.approx(0.5)


def test_a_fit_of_several_seeds_costs_as_much_as_one(results):
    """Tokens, seconds, bytes and labels are the mean over the fits: a user needs one."""
    once = found(results)["recontrol"].prepared
    assert once.tokens == 30_000
    assert once.fit.tokens == {"policy": 28_000, "reward": 2_000}
    assert once.seconds == pytest.approx(4.0)
    assert once.labels == 50
    assert 1000 < once.disk < 1300


def test_parts_of_a_stack_share_their_labels(tmp_path):
    """Two parts that learn from the same fifty pairs need fifty, and both fits are paid for."""
    row(tmp_path, "unsteered", 0.0, {"policy": 100})
    stack = "recontrol+static_editing"
    row(tmp_path, stack, 0.5, {"policy": 90}, fits=("aa",))
    spec = next(tmp_path.glob(f"runs/*/*/{stack}/*/spec.json"))
    told = json.loads(spec.read_text()) | {"fits": ["aa", "bb"]}
    spec.write_text(json.dumps(told))
    fitted(tmp_path, "recontrol", "aa", {"policy": 10}, 1.0, labels=50)
    fitted(tmp_path, stack, "bb", {"policy": 20}, 2.0, labels=50)
    once = found(tmp_path)[stack].prepared
    assert (once.labels, once.tokens, once.seconds) == (50, 30, 3.0)


def test_labels_that_no_fit_recorded_are_unknown(tmp_path):
    """A ledger of an older version says nothing on labels, which is not zero."""
    row(tmp_path, "unsteered", 0.0, {"policy": 100})
    row(tmp_path, "recontrol", 0.5, {"policy": 90}, fits=("aa",))
    fitted(tmp_path, "recontrol", "aa", {"policy": 10}, 1.0)
    assert math.isnan(found(tmp_path)["recontrol"].prepared.labels)


def test_training_is_spread_over_the_queries(results):
    """Thirty thousand tokens over a thousand queries are thirty more an answer."""
    bill = found(results)["recontrol"]
    assert [bill.amortised(q) for q in (1_000, 10_000)] == pytest.approx([130, 103])


def test_tuning_is_part_of_the_bill(results):
    """A tuned row pays for its trials; without their folder it pays for none and says 0."""
    tuned = {"trials": 8, "objective": "reward"}
    row(results, "prompting", 0.2, {"policy": 120}, tuning=tuned)
    assert found(results)["prompting"].prepared.trials == 0
    folder = results / "tuned" / TERMS / "prompting" / "x"
    folder.mkdir(parents=True)
    ledger = {"tokens": {"policy": 7000}, "forwards": {}, "seconds": {"decode": 2.5}, "peak": 0}
    (folder / "tuned.json").write_text(json.dumps(tuned | {"evaluations": 8, "ledger": ledger}))
    once = found(results)["prompting"].prepared
    assert (once.trials, once.tokens, once.seconds) == (8, 7000, 2.5)


def test_a_fit_pays_from_some_number_of_queries_on(results):
    """30,000 tokens once against 1,500 more an answer: 20 queries."""
    known = found(results)
    assert cheaper(known["recontrol"], known["best_of_n"], "tokens") == ("from", 20)
    assert cheaper(known["best_of_n"], known["recontrol"], "tokens") == ("up to", 20)
    assert cheaper(known["unsteered"], known["recontrol"], "tokens")[0] == "always"
    assert cheaper(known["recontrol"], known["unsteered"], "tokens")[0] == "never"


@pytest.mark.parametrize(
    ("costs", "said", "queries"),
    [
        ((10, 1, 0, 3), "from", 5),
        ((0, 3, 10, 1), "up to", 5),
        ((0, 1, 0, 2), "always", None),
        ((5, 1, 0, 1), "never", None),
        ((0, 1, 0, 1), "equal", None),
        ((0, math.nan, 0, 1), "unknown", None),
    ],
)
def test_break_even(costs, said, queries):
    """Two straight lines: where they cross, or which one is always below."""
    kind, n = break_even(*costs)
    assert kind == said
    assert math.isnan(n) if queries is None else n == queries


def test_quality_at_equal_tokens_is_read_between_measured_rows():
    """Half way in the logarithm of tokens is half way in quality; nothing is extrapolated."""
    line = [(1, 0.0), (16, 2.0)]
    assert at_cost(line, 4) == pytest.approx(1.0)
    assert at_cost(line, 16) == pytest.approx(2.0)
    assert math.isnan(at_cost(line, 17))
    assert math.isnan(at_cost(line, 0.5))
    assert math.isnan(at_cost(line[:1], 1))


def test_the_front_is_what_nothing_beats():
    """Better or cheaper stays, worse and dearer goes, and NaN is nowhere."""
    points = [(1, 0.0), (2, 1.0), (2, 0.5), (3, 1.0), (1, math.nan)]
    assert on_front(points) == [True, True, False, False, False]


def test_a_bound_takes_nobody_from_the_front(results):
    """A row that uses what it is judged by is shown, and beats no method."""
    row(results, "oracle_best_of_n", 9.0, {"policy": 50}, marks=["ceiling"])
    terms = choose_terms(results, "toy")
    points = {p.label: p for p in points_of(compare(read_cell(terms.benchmarks[0])))}
    assert {name for name, p in points.items() if p.front} == {"recontrol", "best_of_n"}
    assert not points["oracle_best_of_n"].chosen


def test_the_page_is_written_with_the_tables(results):
    """cost.md, its CSV, LaTeX and figure lie beside overall.md, which names it."""
    names = {path.name for path in write_tables(results, "toy")}
    assert {"cost.md", "cost.csv", "cost.tex", "cost.png", "cost.break_even.csv"} <= names
    out = results / "tables" / "toy"
    assert "cost.md" in (out / "overall.md").read_text()
    text = (out / "cost.csv").read_text()
    lines = {line["method"]: line for line in csv.DictReader(text.splitlines())}
    assert lines["best_of_n"]["tokens_reward"] == "800"
    assert lines["recontrol"]["tokens_at_1000_queries"] == "130"
    assert "≥ 20" in (out / "cost.md").read_text()


def test_rows_that_count_no_tokens_are_compared_with_nobody(tmp_path):
    """Imported answers cost nobody knows what: unknown, not free."""
    row(tmp_path, "unsteered", 0.0, {})
    row(tmp_path, "prompting", 0.0, {})
    known = found(tmp_path)
    assert cheaper(known["prompting"], known["unsteered"], "tokens")[0] == "unknown"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950.4, "950"), (12_345, "12.3k"), (4.56e6, "4.56M"), (2.5, "2.5")],
)
def test_amounts_are_short(value, text):
    """Three digits and a letter are enough to compare."""
    assert amount(value) == text
