"""Judges of single answers, of labels and of weights; what their templates may name."""

import pytest

from harness.chat import Chat
from harness.contracts.backends import Canned, Reply
from harness.contracts.judges import Judge, Labelled, Pairwise, Ruling, Single
from harness.contracts.scorer import Answered, Instruments, facts, judge_scorer
from harness.errors import PlumblineError
from harness.records import Prompt, Response

PROMPT = Prompt(
    "p", Chat.of("one?"), turns=("two?",), reference="r1", further=("r2",), category="math"
)


def item(turn=0, text="ours"):
    """Make an answer to the first or the second turn."""
    chat = Chat.of("one?")
    if turn:
        chat = chat.assistant("first").user("two?")
    return Answered(PROMPT, chat, Response("p", turn, text, (1,), "eos"))


def scored(judge, reply, items=None, reference=None):
    """Score items with a canned judge; give the scores and the conversations it was asked."""
    asked = []

    def answer(chat):
        asked.append(chat)
        return reply(chat) if callable(reply) else reply

    scorer = judge_scorer(Instruments(backends={"j": Canned(answer)}), "j", judge)
    items = items or [item()]
    return scorer.score(items, reference or {}), asked, scorer


def test_a_second_turn_knows_the_first():
    """Questions, answers and references come by turn, up to the one that is judged."""
    known = facts(item(turn=1))
    assert known["question"] == "two?"
    assert known["questions"] == ["one?", "two?"]
    assert known["answers"] == ["first", "ours"]
    assert (known["references"], known["reference"]) == (["r1", "r2"], "r2")
    assert facts(item())["references"] == ["r1"]


def test_both_sides_of_a_second_turn_have_their_own_first_answer():
    """The opponent's earlier answer is its own."""
    template = "{{ question }}|{{ answers_a }}|{{ answers_b }}|{{ answer_a }}{{ answer_b }}"
    judge = Pairwise(template, lambda _: "A", "one line", swap=False)
    reference = {("p", 0): "theirs 1", ("p", 1): "theirs 2"}
    _, (chat,), _ = scored(judge, "A", [item(turn=1)], reference)
    assert chat.last_user == ("two?|['first', 'ours']|['theirs 1', 'theirs 2']|ourstheirs 2")


def test_a_grade_is_the_value():
    """A judge of single answers gives a number, or the reason why there is none."""
    judge = Single("{{ question }} {{ answer }}", lambda t: float(t) if t else None, "one line")
    (score,), (chat,), scorer = scored(judge, "7")
    assert (score.value, score.outcome, scorer.measure) == (7.0, "ok", "grade")
    assert chat.last_user == "one? ours"
    (score,), *_ = scored(judge, "")
    assert (score.value, score.outcome) == (None, "unparsed")
    (score,), *_ = scored(judge, Reply("", "refused", "declined"))
    assert (score.value, score.outcome, score.text) == (None, "refused", "[refused: declined]")


def test_a_label_is_a_share_and_a_part_of_its_own():
    """The wanted label is worth one; every label is counted."""
    judge = Labelled(
        "{{ question }} {{ answer }}",
        lambda t: t or None,
        "one line",
        labels={"bad": 0.0, "good": 1.0},
        measure="goodness",
    )
    (score,), _, scorer = scored(judge, "good")
    assert (score.value, dict(score.parts)) == (1.0, {"bad": 0.0, "good": 1.0})
    assert scorer.measure == "goodness"
    (score,), *_ = scored(judge, "bad")
    assert score.value == 0.0
    (score,), *_ = scored(judge, "")
    assert score.outcome == "unparsed"
    with pytest.raises(PlumblineError, match="gave the label 'other'"):
        scored(judge, "other")


def test_marks_of_both_sides_are_kept_whichever_stood_first():
    """Marks are averaged over the orders, each side's with its own."""

    def reply(chat):
        return "8 5" if chat.last_user.startswith("ours") else "4 6"

    def parse(words):
        a, b = map(float, words.split())
        return Ruling(float(b > a), (a, b))

    judge = Pairwise("{{ answer_a }} {{ answer_b }} {{ question }}", parse, "one line")
    (score,), *_ = scored(judge, reply, reference={("p", 0): "theirs"})
    assert score.value == 1.0
    assert (score.parts["mark"], score.parts["mark_other"]) == (7.0, 4.5)


@pytest.mark.parametrize(("first", "value"), [(True, 0.8), (False, 0.2)])
def test_a_weighing_judge_is_asked_in_the_order_it_says(first, value):
    """The share of the second answer is ours or theirs, as the one order has it."""
    judge = Pairwise(
        "{{ answer_a }} {{ answer_b }} {{ question }}",
        lambda _: None,
        "one line",
        swap=False,
        weigh=lambda reply: Ruling(0.2),
        first=lambda known: first and known["question"] == "one?",
    )
    (score,), (chat,), _ = scored(judge, "x", reference={("p", 0): "theirs"})
    assert chat.last_user.startswith("ours theirs" if first else "theirs ours")
    assert score.value == pytest.approx(value)
    assert "inconsistent" not in score.parts


@pytest.mark.parametrize("kind", [Single, Labelled])
def test_a_template_without_the_answer_is_refused(kind):
    """What is missing is named."""
    with pytest.raises(PlumblineError, match=r"no \{\{ answer \}\}; it needs question and answer"):
        kind("{{ question }}", str, "one line")


def test_a_broken_template_is_refused():
    """The line is named."""
    with pytest.raises(PlumblineError, match="broken in line 2"):
        Single("{{ question }}\n{{ answer ", str, "one line")


def test_a_template_that_names_what_is_not_known_is_refused():
    """The unknown name is in the message."""
    judge = Single("{{ question }} {{ answer }} {{ colour }}", float, "one line")
    with pytest.raises(PlumblineError, match="'colour' is undefined"):
        scored(judge, "7")


def test_a_judge_of_no_known_kind_is_refused():
    """The three kinds are named."""
    with pytest.raises(PlumblineError, match="must be Pairwise, Single or Labelled"):
        judge_scorer(Instruments(), "j", Judge("", str, "one line"))


def test_the_backend_is_told_how_to_decode():
    """System sentence, budget, temperature and probabilities reach it."""
    told = {}

    class Listening(Canned):
        def ask(self, chats, **how):
            told.update(how, system=chats[0].system)
            return [Reply("7")]

    judge = Single(
        "{{ question }} {{ answer }}",
        float,
        "one line",
        system="be fair",
        max_tokens=9,
        temperature=0.7,
        logprobs=5,
    )
    scorer = judge_scorer(Instruments(backends={"j": Listening(str)}), "j", judge)
    scorer.score([item()], {})
    assert told == {"max_tokens": 9, "temperature": 0.7, "logprobs": 5, "system": "be fair"}
