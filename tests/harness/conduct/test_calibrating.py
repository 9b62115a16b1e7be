import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.chat import Chat
from harness.conduct import calibrating, labelled
from harness.conduct.labelled import LabelledSet, Pair
from harness.conduct.terms import Judging
from harness.contracts.backends import Canned, Reply
from harness.contracts.scorer import Instruments, Pairwise, PairwiseScorer, Scorer
from harness.errors import PlumblineError
from harness.records import Score
from harness.report.verdict_grids import citations

SHARED = Path(__file__).parents[4] / "shared" / "data" / "judge_calibration" / "llmbar"
TEMPLATE = "{{ question }}\n1: {{ answer_a }}\n2: {{ answer_b }}"


def judge_of(answer, swap=True):
    """A scorer over a function of the judge's prompt; it says A, B, tie or nothing readable."""
    judge = Pairwise(TEMPLATE, {"A": "A", "B": "B", "tie": "tie"}.get, "toy", swap=swap)
    backend = answer if isinstance(answer, Canned) else Canned(answer)
    return PairwiseScorer(Instruments(backends={"toy": backend}), "toy", judge)


def pairs(count, label=lambda i: float(i % 2)):
    """Pairs whose better answer says so; every third is longer on the A side."""
    made = []
    for i in range(count):
        good, bad = f"good {i}", f"bad {i}" + " and long" * (i % 3 == 0)
        sides = (good, bad) if label(i) == 1.0 else (bad, good)
        made.append(Pair(str(i), Chat.of(f"q{i}"), *sides, label(i)))
    return LabelledSet("toy set", "people", tuple(made), count)


def right(chat):
    """Say which answer is the good one."""
    return "A" if "1: good" in chat.last_user else "B"


def test_a_judge_that_is_always_right():
    """Full agreement, no flip, the same again."""
    found = calibrating.held(judge_of(right), judge_of(right), pairs(30), repeats=10)
    assert found.agreement.value == found.kappa == found.repeated.value == 1.0
    assert (found.flips.value, found.flips.n, found.repeated.n) == (0.0, 30, 10)
    assert found.first.value == 0.5
    assert found.longer.value == found.longer_by_label.value


def test_a_judge_that_takes_the_first():
    """Every pair flips to the other side, and nothing is agreed on."""
    found = calibrating.held(judge_of(lambda _: "A"), judge_of(lambda _: "A"), pairs(30))
    assert found.flips.value == found.reversed.value == found.first.value == 1.0
    assert found.agreement.value == 0.0
    assert found.first_order.value == 0.5


def test_a_judge_of_known_accuracy_is_measured_right():
    """Right with chance 0.8 by a hash of the pair: the share lies within its own interval."""

    def mostly(chat):
        lines = chat.last_user.split("\n")
        lucky = random.Random(lines[0]).random() < 0.8
        return right(chat) if lucky else "BA"["AB".index(right(chat))]

    found = calibrating.held(judge_of(mostly), judge_of(mostly), pairs(400))
    assert found.agreement.low < 0.8 < found.agreement.high
    assert found.kappa == pytest.approx(2 * found.agreement.value - 1, abs=0.01)


def test_what_cannot_be_read_is_counted():
    """Replies without a verdict, refusals and failures are outcomes, never disagreement."""

    def odd(chat):
        number = int(chat.last_user.split("\n")[0][1:])
        if number % 10 == 0:
            return "hm"
        if number % 10 == 1:
            return Reply("", "refused", "no")
        return Reply("", "failed", "gone") if number % 10 == 2 else right(chat)

    found = calibrating.held(judge_of(odd), judge_of(odd), pairs(40), repeats=0)
    assert found.no_verdict == {"failed": 4, "refused": 4, "unparsed": 4}
    assert (found.agreement.value, found.agreement.n) == (1.0, 28)
    assert found.repeated.n == 0


def test_a_judge_that_wavers_is_found_out():
    """What it says of a second draw decides self-consistency."""
    found = calibrating.held(judge_of(right), judge_of(lambda _: "tie"), pairs(20), repeats=20)
    assert found.repeated.value == 0.0


def test_another_draw_is_asked_for():
    """The second asking differs from the first, so no kept reply can stand for it."""

    class Drawing(Canned):
        def ask(self, chats, *, draw=0, **how):
            return [Reply(f"draw {draw}") for _ in chats]

    replies = calibrating.Redrawn(Drawing(str)).ask([Chat.of("q")], max_tokens=4)
    assert replies[0].text == "draw 1"


def test_a_judge_of_single_answers_grades_both_sides():
    """The higher grade wins, equal grades tie, a missing grade is no verdict."""

    class Grader(Scorer):
        def score(self, answered, reference):
            grades = {"good": 7.0, "bad": 5.0}
            return [
                Score(*a.key, None, "unparsed") if a.key[0] == "3"
                else Score(*a.key, grades[a.response.text.split()[0]])
                for a in answered
            ]  # fmt: skip

    grader = Grader(Instruments())
    found = calibrating.held(grader, grader, pairs(12), repeats=0)
    assert (found.agreement.value, found.agreement.n) == (1.0, 11)
    assert found.no_verdict == {"unparsed": 1}
    assert found.flips.n == 0


def setting(answer, **judging):
    """A setting as far as calibration reads it."""
    how = Judging(backend="local", path="./judge", **judging)
    sections = SimpleNamespace(
        judging={"testbed_pairwise": how}, training=SimpleNamespace(dev=None)
    )
    protocol = SimpleNamespace(sections=sections, name="toy", file_hash="0" * 10)
    return SimpleNamespace(protocol=protocol, backend=lambda _: Canned(answer, "tiny"), gold=None)


def test_the_file_lies_where_the_tables_look(tmp_path):
    """One file per judge and backend, with every set's numbers and no NaN."""

    def say(chat):
        text = chat.last_user
        good = text.index("good") < text.index("bad")
        return f"The better answer is {'A' if good else 'B'} because."

    lines = []
    path = calibrating.calibrate(
        "testbed_pairwise", setting(say), [pairs(12)], tmp_path, say=lines.append
    )
    assert path == tmp_path / "calibration" / "toy" / "testbed_pairwise@tiny.json"
    found = json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
    (one,) = found["sets"]
    assert (one["name"], one["labels"], one["pairs"]) == ("toy set", "people", 12)
    assert one["agreement"]["value"] == one["kappa"] == 1.0
    assert "12 of 12 pairs; agrees with people on 100.0 %" in lines[0]


def test_nothing_to_calibrate_on_names_the_sources(tmp_path, monkeypatch):
    """Without label files a user reads where to put them and where they come from."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path))
    with pytest.raises(PlumblineError, match=r"labels.*LLMBar.*HH-RLHF.*MT-Bench"):
        calibrating.label_sets(setting(right), [], 10)


def test_a_folder_may_hold_other_files(tmp_path):
    """Of a folder what is no set of pairs is left out and said; named itself it is an error."""
    (tmp_path / "stats.json").write_text('{"a": 1}', "utf-8")
    items = [{"question": "q", "answer_a": "x", "answer_b": "y", "label": x} for x in "ABAB"]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n", "utf-8")
    lines = []
    (one,) = calibrating.label_sets(setting(right), [str(tmp_path)], 0, lines.append)
    assert one.name == "mine"
    assert lines == [f"{tmp_path / 'stats.json'}: left out, no labelled pairs in it"]
    with pytest.raises(PlumblineError, match="no set of labelled pairs"):
        calibrating.label_sets(setting(right), [str(tmp_path / "stats.json")], 0)


def test_a_judge_that_says_nothing_has_no_numbers(tmp_path):
    """Without a verdict the line has dashes, the file nulls, and the tables still cite it."""
    lines = []
    path = calibrating.calibrate(
        "testbed_pairwise", setting(lambda _: "hm"), [pairs(6)], tmp_path, say=lines.append
    )
    assert "agrees with people on –;" in lines[0]
    assert "no kappa" in lines[0]
    assert "no verdict: 6 unparsed" in lines[0]
    (one,) = json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)["sets"]
    assert one["kappa"] is None
    known = {"testbed_pairwise@tiny": {"sets": [one]}}
    cited = citations(["win_rate@testbed_pairwise@tiny"], "toy", known)
    assert "agrees with people on – of 0 toy set" in cited.lines[0][0].text


def test_a_judge_must_be_under_the_protocols_judging():
    """A judge nobody answers for, and one that does not exist, are two clear lines."""
    empty = setting(right)
    empty.protocol.sections.judging.clear()
    with pytest.raises(PlumblineError, match=r"\[judging\] of protocol toy"):
        calibrating.judging_of(empty, "testbed_pairwise")
    with pytest.raises(PlumblineError, match="nobody"):
        calibrating.judging_of(setting(right), "nobody")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real label files are not here")
@pytest.mark.parametrize("judge", ["GPT-4/Vanilla_NoRules", "ChatGPT/Vanilla_NoRules"])
def test_published_judges_are_measured_as_published(judge):
    """Replaying stored verdicts gives LLMBar's accuracies and order consistency on MT-Bench."""
    path = SHARED / "mt_bench_human_majority_200.jsonl.gz"
    one = labelled.read(path)
    stored = [item["judges"][judge] for item in labelled.read_items(path)]
    verdict = dict(zip((pair.id for pair in one.pairs), stored, strict=True))
    named = tuple(Pair(p.id, Chat.of(p.id), p.a, p.b, p.label) for p in one.pairs)
    straight = {p.id: f"1: {p.a}\n2: {p.b}" for p in one.pairs}

    def replay(chat):
        name, shown = chat.last_user.split("\n", 1)
        swapped = shown != straight[name]
        winner = verdict[name]["winner_swapped" if swapped else "winner_unswapped"]
        return "A" if (winner == "1") != swapped else "B"

    every = LabelledSet("mt", "people", named, 200)
    found = calibrating.held(judge_of(replay), judge_of(replay), every, repeats=5)
    known = json.loads((SHARED / "published_statistics.json").read_text("utf-8"))[
        f"mt_bench_human_majority_200|{judge}"
    ]
    count = {name: int(known[name].split(" /")[0]) for name in known if "/" in str(known[name])}
    assert found.agreement.value * 200 == pytest.approx(count["correct_both"])
    assert found.first_order.value * 200 == pytest.approx(count["correct_False"])
    assert (1 - found.flips.value) * 200 == pytest.approx(count["equal"])
