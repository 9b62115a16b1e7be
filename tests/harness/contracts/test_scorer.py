"""A judge's verdicts become scores: both orders, inconsistencies, and replies without a verdict."""

import pytest

from harness.chat import Chat
from harness.contracts.backends import Canned, Reply
from harness.contracts.scorer import Answered, Instruments, Pairwise, PairwiseScorer
from harness.errors import PlumblineError
from harness.records import Prompt, Response

TEMPLATE = "Q {{ question }}\nA {{ answer_a }}\nB {{ answer_b }}\n"


def parse(words):
    """Read a verdict."""
    return {"A": "A", "B": "B", "C": "tie"}.get(words.strip()[-1:])


def item(name="p", text="ours", turn=0):
    """Make a response to a question."""
    chat = Chat.of("why?").assistant("so").user("and then?")
    prompt = Prompt(name, Chat.of("why?"))
    return Answered(prompt, chat, Response(name, turn, text, (1,), "eos"))


def scored(answer, *, swap=True, items=None, theirs="theirs"):
    """Score items with a canned judge; give the scores and the questions it was asked."""
    asked = []

    def reply(chat):
        asked.append(chat.last_user)
        return answer(chat.last_user)

    backends = {"judge": Canned(reply)}
    scorer = PairwiseScorer(
        Instruments(backends=backends), "judge", Pairwise(TEMPLATE, parse, "one line", swap=swap)
    )
    items = items or [item()]
    return scorer.score(items, {i.key: theirs for i in items}), asked


def prefers(text):
    """Make a judge that prefers a text wherever it stands."""
    return lambda words: "A" if f"A {text}" in words else "B"


def test_a_judge_is_asked_in_both_orders():
    """Each answer stands first once; the question is the last thing the user said."""
    _, asked = scored(prefers("ours"))
    assert asked == [
        "Q and then?\nA ours\nB theirs",
        "Q and then?\nA theirs\nB ours",
    ]
    _, asked = scored(prefers("ours"), swap=False)
    assert asked == ["Q and then?\nA ours\nB theirs"]


def test_a_missing_reference_or_reply_is_an_error_that_names_it():
    """An answer without an opponent, or a backend that loses questions, is said in one line."""
    judge = Pairwise(TEMPLATE, parse, "one line")
    scorer = PairwiseScorer(Instruments(backends={"judge": Canned(str)}), "judge", judge)
    with pytest.raises(PlumblineError, match="no answer to compare with for 'p', turn 0"):
        scorer.score([item()], {})

    class Lossy(Canned):
        def ask(self, chats, *, max_tokens):
            return super().ask(chats, max_tokens=max_tokens)[1:]

    scorer = PairwiseScorer(Instruments(backends={"judge": Lossy(str)}), "judge", judge)
    with pytest.raises(PlumblineError, match="1 replies to 2 questions"):
        scorer.score([item()], {item().key: "theirs"})


@pytest.mark.parametrize(("text", "value"), [("ours", 1.0), ("theirs", 0.0)])
@pytest.mark.parametrize("swap", [True, False])
def test_a_consistent_verdict_is_a_win_or_a_loss(text, value, swap):
    """Whoever is preferred in both orders wins."""
    ((score,), _) = scored(prefers(text), swap=swap)
    assert (score.value, score.outcome) == (value, "ok")
    assert score.key == ("p", 0)
    if swap:
        assert score.parts == {"order_0": value, "order_1": value, "inconsistent": 0.0}
    else:
        assert score.parts == {"order_0": value}


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_looks_at_the_place_only_is_inconsistent(place):
    """Two verdicts that disagree are a half, and are counted; they are no tie."""
    ((score,), _) = scored(lambda words: place)
    assert (score.value, score.outcome) == (0.5, "ok")
    assert score.parts["inconsistent"] == 1.0
    assert score.parts["order_0"] == float(place == "A")


def test_ties():
    """Two ties are a tie; a tie and a win are three quarters."""
    ((score,), _) = scored(lambda words: "C")
    assert (score.value, score.outcome, score.parts["inconsistent"]) == (0.5, "tie", 0.0)
    ((score,), _) = scored(lambda words: "A" if "A ours" in words else "C")
    assert (score.value, score.outcome, score.parts["inconsistent"]) == (0.75, "ok", 0.0)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("I cannot say", "unparsed"),
        ("", "unparsed"),
        (Reply("", "failed", "timeout"), "failed"),
        (Reply("A", "failed", "cut off"), "failed"),
        (Reply("", "refused", "declined"), "refused"),
    ],
)
@pytest.mark.parametrize("where", ["A ours", "A theirs", ""])
def test_no_verdict_is_no_tie(reply, outcome, where):
    """A reply without a verdict in either order leaves the pair without a value."""
    ((score,), _) = scored(lambda words: reply if where in words else "A")
    assert score.value is None
    assert score.outcome == outcome
    assert score.parts == {}


def test_the_judges_words_are_kept_whole():
    """What was said in each order is stored; where nothing was said, the reason is."""
    ((score,), _) = scored(
        lambda w: "Surely A" if "A ours" in w else Reply("", "failed", "timeout")
    )
    assert score.text == "Surely A\n---\n[failed: timeout]"


def test_scores_come_in_the_order_of_the_responses():
    """Each response gets the score of its own questions."""
    items = [item("p", "good"), item("q", "bad"), item("q", "good", turn=1)]
    scores, asked = scored(
        lambda w: "C" if "bad" in w else ("A" if "A good" in w else "B"), items=items
    )
    assert [(s.key, s.value) for s in scores] == [(("p", 0), 1.0), (("q", 0), 0.5), (("q", 1), 1.0)]
    assert len(asked) == 6


def test_answers_are_inserted_as_they_are():
    """Braces and tags in an answer are words, not a template."""
    odd = "{{ question }} {% raise %} <b>&amp;</b>"
    _, asked = scored(prefers("x"), items=[item(text=odd)])
    assert f"A {odd}\n" in asked[0]


@pytest.mark.parametrize("missing", ["question", "answer_a", "answer_b"])
def test_a_template_that_leaves_something_out_is_refused(missing):
    """A judge must see the question and both answers."""
    with pytest.raises(PlumblineError, match=rf"has no \{{\{{ {missing} \}}\}}"):
        Pairwise(TEMPLATE.replace(missing, "other"), parse, "one line")
    with pytest.raises(PlumblineError, match=rf"has no \{{\{{ {missing} \}}\}}"):
        Pairwise(TEMPLATE.replace(missing, "other") + missing, parse, "the word is no place")


def test_a_judge_without_a_backend_is_skipped_with_a_reason():
    """The reason names the judge and where to configure it."""
    judge = Pairwise(TEMPLATE, parse, "one line")
    reason = "no backend for judge 'judge' under [judging]"
    assert PairwiseScorer(Instruments(), "judge", judge).skip() == reason
    there = Instruments(backends={"judge": Canned(lambda c: "A")})
    assert PairwiseScorer(there, "judge", judge).skip() is None
