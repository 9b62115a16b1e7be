"""Judging stored answers: against what, by whom, and never twice."""

from pathlib import Path

import pytest

from harness.conduct import runner, store
from harness.conduct.protocol import load
from harness.conduct.setting import Setting
from harness.contracts.backends import Canned, Reply


class Judged(Setting):
    """A setting whose judge answers from a function, and counts what it was asked."""

    verdict = "The better answer is A because it is more helpful."
    asked = 0

    def backend(self, judging):
        """Give the canned judge."""

        def answer(chat):
            type(self).asked += 1
            return self.verdict

        return Canned(answer, name="canned-7b")


@pytest.fixture
def judged(tiny, tmp_path):
    """Give a function that runs a row under a judge, and the results folder."""

    def run(methods="another_seed", against="unsteered", backend="world", verdict=None):
        file = tmp_path / "judged.toml"
        path = '\npath = "/nowhere"' if backend == "local" else ""
        text = Path(tiny).read_text() + (
            f'[judging.testbed_pairwise]\nbackend = "{backend}"{path}\nagainst = "{against}"\n'
        )
        file.write_text(text)
        setting = Judged(load(file), device="cpu")
        setting.verdict = verdict or Judged.verdict
        Judged.asked = 0
        outcome = runner.bench(
            runner.order(methods, str(file), benchmarks="hh_rlhf"),
            store.Store(tmp_path / "results"),
            say=lambda line: None,
            tables=False,
            setting=setting,
        )
        assert outcome.failures == []
        return Judged.asked

    return run


def folder(tmp_path, stack):
    """Give the one run of a stack."""
    (found,) = tmp_path.glob(f"results/runs/*/hh_rlhf/{stack}/*/spec.json")
    return found.parent


def scores(tmp_path, stack, column="win_rate@testbed_pairwise"):
    """Give a run's scores of one column."""
    return store.scores(folder(tmp_path, stack), column)


def test_the_reference_ties_with_itself_and_nobody_is_asked(judged, tmp_path):
    """Answers identical to what they are compared with are ties by definition."""
    judged("unsteered")
    assert Judged.asked == 0
    found = scores(tmp_path, "unsteered")
    assert {(s.value, s.outcome) for s in found.values()} == {(0.5, "tie")}


def test_a_row_is_judged_in_both_orders_against_the_reference_run(judged, tmp_path):
    """A judge that always prefers the first answer sees inconsistent pairs, a half each."""
    asked = judged()
    found = scores(tmp_path, "another_seed")
    ours = {r.key: r.text for r in store.responses(folder(tmp_path, "another_seed"))}
    theirs = {r.key: r.text for r in store.responses(folder(tmp_path, "unsteered"))}
    differ = [key for key in ours if ours[key] != theirs[key]]
    assert asked == 2 * len(differ) > 0
    for key in differ:
        assert found[key].value == 0.5
        assert found[key].parts["inconsistent"] == 1.0
    assert len(found) == len(ours)


def test_a_judge_is_asked_once_and_answers_are_not_drawn_again(judged, tmp_path):
    """The same command asks nobody; adding a judge to finished runs only judges."""
    assert judged() > 0
    written = (folder(tmp_path, "another_seed") / "responses.jsonl").stat().st_mtime_ns
    assert judged() == 0
    assert judged(backend="local") > 0
    assert (folder(tmp_path, "another_seed") / "responses.jsonl").stat().st_mtime_ns == written
    local = scores(tmp_path, "another_seed", "win_rate@testbed_pairwise@canned-7b")
    assert len(local) == len(scores(tmp_path, "another_seed"))


def test_against_the_sets_own_answers(judged, tmp_path):
    """With against = "reference" the set's answers are the opponent, for the reference too."""
    assert (
        judged("unsteered", against="reference", verdict="The better answer is neither of the two.")
        > 0
    )
    found = scores(tmp_path, "unsteered")
    assert {s.outcome for s in found.values()} == {"tie"}


def test_a_verdict_that_cannot_be_read_is_counted_not_averaged(judged, tmp_path):
    """Words without a verdict are "unparsed", with no value."""
    judged(verdict="Both answers contain words.")
    outcomes = {s.outcome for s in scores(tmp_path, "another_seed").values()}
    assert "unparsed" in outcomes
    assert all(
        s.value is None
        for s in scores(tmp_path, "another_seed").values()
        if s.outcome == "unparsed"
    )


def test_what_a_judge_never_answered_is_put_to_it_again(judged, tmp_path):
    """A failed verdict is counted, written once however often it fails, and mended later."""
    judged(verdict=Reply("", "failed", "down"))
    file = folder(tmp_path, "another_seed") / "scores.win_rate@testbed_pairwise.jsonl"
    failed = [s for s in scores(tmp_path, "another_seed").values() if s.outcome == "failed"]
    lines = file.read_bytes().count(b"\n")
    assert judged(verdict=Reply("", "failed", "down")) == 2 * len(failed) > 0
    assert file.read_bytes().count(b"\n") == lines
    assert judged() == 2 * len(failed)
    assert {s.outcome for s in scores(tmp_path, "another_seed").values()} <= {"ok", "tie"}
    assert judged() == 0


def test_an_edit_of_the_parser_asks_nobody(judged, tmp_path, monkeypatch):
    """Replies are kept apart from what was read in them."""
    from harness.conduct import judges

    assert judged() > 0
    before = scores(tmp_path, "another_seed")
    monkeypatch.setattr(judges, "code_digest", lambda file: "another parser")
    assert judged() == 0
    assert scores(tmp_path, "another_seed") == before


def test_what_a_broken_judge_has_cost_is_on_the_ledger(judged, tmp_path, monkeypatch):
    """A judge that stops the work midway leaves what it spent, and the answers before it."""
    from harness.errors import PlumblineError

    monkeypatch.setattr("harness.conduct.scoring.CHUNK", 4)
    judged("unsteered")

    def answer(chat):
        Judged.asked += 1
        if Judged.asked > 12:
            raise PlumblineError("the endpoint is gone")
        return Judged.verdict

    monkeypatch.setattr(Judged, "backend", lambda self, judging: Canned(answer))
    with pytest.raises(AssertionError, match="the endpoint is gone"):
        judged()
    broken = folder(tmp_path, "another_seed")
    assert 0 < len(scores(tmp_path, "another_seed")) < len(store.responses(broken))
    phases = [line["phase"] for line in store.read_lines(broken / "ledger.jsonl")]
    assert phases.count("score") > 1
    assert not store.is_done(broken)
