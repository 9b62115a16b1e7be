"""Rates of finished runs, and guesses for rows that nobody ran: by hand on toy numbers."""

import pytest
from toystore import HASH, run_spec, wave, write_run

from harness.conduct import store
from harness.report.rate_sources import from_table, read_runs, to_table
from harness.report.rates import (
    ANSWER,
    FIT,
    Measured,
    Rate,
    Rates,
    completed,
    names,
)


def answer(benchmark, row, decode, tokens=100.0, **more):
    """Give a measured answer of so many seconds and tokens."""
    seconds = {"decode": decode} | {k: v for k, v in more.items() if k != "reward"}
    spent = {"decode.policy": tokens}
    if "kl" in more:
        spent["kl.policy"] = 2 * tokens
    if "reward" in more:
        spent["decode.reward"] = more["reward"]
    return Measured(ANSWER, benchmark, row, Rate(seconds, spent), 10)


KNOWN = Rates(
    [
        answer("a", "unsteered", 1.0, score=0.5),
        answer("b", "unsteered", 3.0, 200.0, score=0.7),
        answer("a", "prompting", 1.5, 120.0, kl=1.0, score=2.0),
        answer("a", "best_of_n", 8.0, 500.0, score=1.0, reward=400.0),
        Measured(FIT, "", "static_editing", Rate({"fit": 12.0}, {"fit.policy": 9.0})),
        Measured(FIT, "", "prompting+static_editing", Rate({"fit": 14.0})),
    ]
)


def test_a_row_that_was_run_is_taken_as_it_is():
    """Its own rate on the benchmark comes first."""
    guess = KNOWN.answer("a", ["prompting"])
    assert guess.basis == "measured"
    assert guess.rate.seconds == {"decode": 1.5, "kl": 1.0, "score": 2.0}


def test_a_row_is_carried_to_another_benchmark_by_the_reference():
    """Unsteered takes 3 times as long and twice the tokens there, so every row does."""
    guess = KNOWN.answer("b", ["prompting"])
    assert guess.basis == "its rate on other benchmarks"
    assert guess.rate.seconds == pytest.approx({"decode": 4.5, "kl": 3.0, "score": 6.0})
    assert guess.rate.tokens["decode.policy"] == pytest.approx(240)


def test_a_stack_costs_the_product_of_its_parts():
    """1.5 times for the prompt, 8 times for the search; its KL is lost with the search."""
    guess = KNOWN.answer("a", ["prompting", "best_of_n"])
    assert guess.basis == "its parts"
    assert guess.rate.seconds == pytest.approx({"decode": 12.0, "score": 2.0})
    assert guess.rate.tokens == pytest.approx({"decode.policy": 600.0, "decode.reward": 400.0})


def test_other_fields_are_the_last_resort():
    """A row known only with other fields is guessed by them; an unknown one not at all."""
    guess = KNOWN.answer("a", ["best_of_n(n=4)"])
    assert (guess.basis, guess.rate.seconds["decode"]) == ("its rate with other fields", 8.0)
    assert KNOWN.answer("a", ["mine"]).rate is None
    assert KNOWN.answer("a", ["prompting", "mine"]).rate is None


def test_a_fit_is_known_by_its_place_in_the_stack():
    """A fit behind its left, then alone, then of the same method with other fields."""
    assert KNOWN.fit("", ["prompting", "static_editing"]).rate.total == 14.0
    assert KNOWN.fit("", ["other", "static_editing"]).rate.total == 12.0
    assert KNOWN.fit("", ["static_editing(strength=2.0)"]).rate.total == 13.0
    assert KNOWN.fit("", ["dpo"]).rate is None


def test_a_slower_machine_is_told_by_what_both_have_run():
    """The median ratio of decoding; seconds change with it and tokens do not."""
    slow = Rates([answer("a", "unsteered", 2.0), answer("a", "prompting", 4.5)])
    assert slow.slower_than(KNOWN) == pytest.approx(2.5)
    assert slow.slower_than(Rates([answer("c", "unsteered", 1.0)])) is None
    twice = KNOWN.faster(2.0).find(ANSWER, "a", "best_of_n")
    assert (twice.seconds["decode"], twice.tokens["decode.policy"]) == (16.0, 500.0)


def test_scoring_and_kl_of_a_row_that_was_only_decoded_are_those_of_others():
    """Scores cost their median, KL its usual share of decoding, where it is measured at all."""
    bare = Rate({"decode": 6.0}, {"decode.policy": 10.0})
    plain = completed(bare, KNOWN, kl=False)
    assert plain.seconds == pytest.approx({"decode": 6.0, "score": 0.85})
    moved = completed(bare, KNOWN, kl=True)
    assert moved.seconds["kl"] == pytest.approx(6.0 * 1.0 / 1.5)
    assert moved.tokens["kl.policy"] == 20.0


def test_a_table_of_rates_is_read_back(tmp_path):
    """What is written as CSV comes back as it was."""
    path = tmp_path / "rates.csv"
    path.write_text(to_table(KNOWN))
    assert from_table(path).lines == KNOWN.lines


def test_runs_are_read_by_machine(tmp_path):
    """Answers are averaged over the runs of a row; runs on another machine stay out."""
    for seed in (0, 1):
        write_run(
            tmp_path,
            run_spec("hh_rlhf", "prompting", seed=seed),
            {"gold": wave(12, 0.0)},
            seconds=6.0 * (1 + seed),
        )
    found = read_runs(tmp_path / f"runs/toy-{HASH}")
    (line,) = found.lines.values()
    assert (line.row, line.count, line.machine) == ("prompting", 24, "cpu, None threads")
    assert line.rate.seconds == pytest.approx({"decode": 0.75, "score": 0.75})
    assert line.rate.tokens == pytest.approx({"decode.policy": 100.0, "score.reward": 83.25})
    assert not read_runs(tmp_path / f"runs/toy-{HASH}", "cuda: other, 1 threads").lines


def test_a_row_is_told_by_its_methods_whatever_its_fields_say():
    """A field's text may hold commas, plus signs and brackets."""
    assert names("prompting(instruction=Be kind, safe + (very) brief.,shots=3)+best_of_n") == (
        "prompting",
        "best_of_n",
    )
    assert names("alignez(layers=(0,),rank=1)") == ("alignez",)


@pytest.mark.parametrize(("queries", "seconds"), [(None, 36.0), (["hh_rlhf", "digest"], 3.0)])
def test_a_fit_that_reads_prompts_is_rated_by_the_prompt(tmp_path, queries, seconds):
    """Twelve prompts were read in 36 seconds; a fit on pairs alone costs them whatever is asked."""
    spec = run_spec("hh_rlhf", "alignez", fits=["00aa11bb22"])
    write_run(tmp_path, spec, {"gold": wave(12, 0.0)})
    folder = tmp_path / f"fits/toy-{HASH}/alignez/00aa11bb22"
    method = {"name": "alignez", "changed": {"rank": 2}}
    store.write_json(folder / "spec.json", {"method": method, "left": [], "queries": queries})
    store.append(
        folder / "ledger.jsonl",
        [{"tokens": {"policy": 24}, "forwards": {}, "seconds": {"fit": 36.0}, "peak": 0}
         | {"phase": "fit"}],
    )  # fmt: skip
    (folder / "done").touch()
    found = read_runs(tmp_path / f"runs/toy-{HASH}")
    rate = found.find(FIT, "hh_rlhf" if queries else "", "alignez(rank=2)")
    assert rate.seconds == {"fit": seconds}
    assert rate.tokens == {"fit.policy": 24.0 * seconds / 36}
