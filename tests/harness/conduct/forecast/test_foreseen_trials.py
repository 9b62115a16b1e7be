"""What a tuning would cost: its answers and fits are counted, what is stored is left out."""

import json

from harness.conduct import runner, store
from harness.conduct.forecast import foretelling
from harness.conduct.forecast import trials as foreseen_trials
from harness.conduct.tuning import objective
from harness.conduct.tuning import search as tuning
from harness.report.rates import ANSWER, FIT


def foresee(tiny, results, methods, trials=3, words="reward", **more):
    """Predict a tuning on the tiny protocol; nothing is tried, since rates are given or unknown."""
    order = runner.order(methods, tiny, seeds="0")
    plan = tuning.plan(order, objective.parse(words), trials, 8)
    said = []
    found = foreseen_trials.foresee(
        plan, store.Store(results), say=said.append, device="cpu", **more
    )
    return found, said


def test_every_method_has_as_many_trials(tiny, tmp_path):
    """Each of them answers the same prompts; one without a search space has none."""
    found, _ = foresee(tiny, tmp_path, "best_of_n,soft_best_of_n,another_seed")
    counts = {line.row: line.count for line in found.lines if line.kind == ANSWER}
    assert counts == {"best_of_n": 24, "soft_best_of_n": 24, "another_seed": 0}
    assert "no search space is declared" in "\n".join(foretelling.told(found))
    assert not list(tmp_path.iterdir())


def test_a_fit_is_counted_once_for_each_setting(tiny, tmp_path):
    """A method that learns is fitted for every setting that is tried."""
    found, _ = foresee(tiny, tmp_path, "static_editing", trials=4)
    (fits,) = [line for line in found.lines if line.kind == FIT]
    assert fits.count == 4
    assert found.total.seconds["fit"] > 0


def test_a_search_with_more_candidates_costs_more(tiny, tmp_path):
    """Settings that nobody has run are tried, each by itself."""
    found, said = foresee(tiny, tmp_path, "best_of_n", trials=5)
    assert sum(line.startswith("trying best_of_n(n=") for line in said) >= 3
    (guess,) = found.guesses
    assert set(guess.rate.seconds) == {"decode", "score"}


def test_trials_that_are_stored_are_not_made_again(tiny, tmp_path):
    """A tuning that was killed after a trial has the others left; a finished one none."""
    order = runner.order("best_of_n", tiny, seeds="0")
    plan = tuning.plan(order, objective.parse("reward"), 2, 8)
    tuning.tune(plan, store.Store(tmp_path), say=lambda _: None, device="cpu")
    whole, _ = foresee(tiny, tmp_path, "best_of_n", trials=2)
    assert [line.left for line in whole.lines] == [0]
    (trials,) = tmp_path.glob("tuned/*/best_of_n/*/trials.jsonl")
    trials.write_text("".join(trials.read_text().splitlines(keepends=True)[:1]))
    (trials.parent / "tuned.json").unlink()
    half, _ = foresee(tiny, tmp_path, "best_of_n", trials=2)
    assert [(line.count, line.left) for line in half.lines] == [(16, 8)]
    more, _ = foresee(tiny, tmp_path, "best_of_n", trials=3)
    assert [line.left for line in more.lines] == [24]
    assert json.loads((trials.parent / "spec.json").read_text())["trials"] == 2
