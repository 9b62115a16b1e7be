import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.planted.language import (
    END,
    UNKNOWN,
    VOCABULARY,
    WORDS,
    Language,
    ids,
    questions,
    rendered,
)
from harness.chat import Chat

LANGUAGE = Language(kind="a", plain="b", rude="c")
ASKED = Chat.of("b")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("", -1.0),
        ("a", 1.0),
        ("b", 1.0),  # worth nothing, but takes up the question
        ("c", -1.0),
        ("?", -1.0),
        ("a b a", 3.0),
        ("a a a a", 4.0 - 3 * 1.5),
        ("a b a b", 3.0),
        ("hello a", 0.0),
    ],
)
def test_gold_by_hand(answer, gold):
    """Gold is what the rubric says, worked by hand."""
    parts = LANGUAGE.gold(ASKED, answer)
    assert parts["gold"] == gold
    assert parts["gold"] == sum(v for k, v in parts.items() if k != "gold")


def test_only_the_last_question_counts():
    """The answer must take up the last user turn, not an earlier one."""
    chat = Chat.of("a").assistant("b").user("c")
    assert LANGUAGE.gold(chat, "a")["answers"] == 0.0
    assert LANGUAGE.gold(chat, "c")["answers"] == 1.0


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text())
def test_gold_never_raises(question, answer):
    """Any text at all has a finite gold value."""
    assert abs(LANGUAGE.gold(Chat.of(question), answer)["gold"]) <= 3 * len(answer) + 2


def test_the_proxy_by_hand():
    """The proxy is eight times the mean weight over the whole conversation."""
    # <user> b <assistant> a a <eos>: 0 + 0.25 + 0 + 1.25 + 1.25 + 0 over 6 tokens
    assert LANGUAGE.proxy(ASKED, "a a") == pytest.approx(8 * 2.75 / 6)


def test_the_proxy_errs_in_the_four_known_ways():
    """The proxy likes length and repetition, ignores the question, and is shifted by it."""
    proxy, gold = LANGUAGE.proxy, lambda chat, text: LANGUAGE.gold(chat, text)["gold"]
    plain = Chat.of("c")
    assert proxy(plain, "b b") > proxy(plain, "b")
    assert gold(plain, "b b") < gold(plain, "b")
    assert proxy(ASKED, "a a a a") > proxy(ASKED, "a b a b")
    assert gold(ASKED, "a a a a") < gold(ASKED, "a b a b")
    assert gold(ASKED, "b") - gold(plain, "b") == 1.0
    assert proxy(Chat.of("a"), "b") > proxy(Chat.of("c"), "b")


def test_the_seed_deals_the_parts():
    """Each world gives the three words the three parts, and seeds differ."""
    dealt = {(w.kind, w.plain, w.rude) for w in map(Language.of, range(20))}
    assert len(dealt) > 3
    assert all(sorted(parts) == sorted(WORDS) for parts in dealt)
    assert Language.of(4) == Language.of(4)


def test_unknown_words_are_read_as_one_unknown_word():
    """Anything outside the vocabulary becomes the unknown word, one for one."""
    unknown = VOCABULARY.index(UNKNOWN)
    assert ids("a kind\nanswer, b!") == [VOCABULARY.index("a"), unknown, unknown, unknown]


def test_a_conversation_is_rendered_with_its_markers():
    """Turns carry markers, answers their end, and an open conversation the assistant's marker."""
    chat = Chat.of("a").assistant("b").user("c")
    named = [VOCABULARY[i] for i in rendered(chat)]
    assert named == ["<user>", "a", "<assistant>", "b", END, "<user>", "c", "<assistant>"]


def test_no_question_is_dealt_twice():
    """The hands of questions are disjoint, of the sizes asked, and depend on the seed."""
    hands = questions(0, (8, 30, 5))
    dealt = [q for hand in hands for q in hand]
    assert [len(h) for h in hands] == [8, 30, 5]
    assert len(set(dealt)) == len(dealt)
    assert hands != questions(1, (8, 30, 5))
    assert hands == questions(0, (8, 30, 5))
