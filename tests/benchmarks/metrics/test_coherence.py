"""The coherence scorer."""

import math

import pytest

from benchmarks.metrics.coherence import Metric
from harness.api import Chat, Instruments, Prompt


class FakeEncoder:
    """Counts letters, and remembers what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, texts):
        """Give a unit vector a text."""
        self.seen += texts
        rows = [[text.lower().count(letter) + 0.01 for letter in "abcdefgh "] for text in texts]
        return [[x / math.hypot(*row) for x in row] for row in rows]


def scores(encoder, items):
    """Give the values of the items."""
    return [s.value for s in Metric(Instruments(embed=encoder)).score(items, {})]


def test_it_is_the_cosine(answered):
    """The same words give 1, letters that never meet give next to 0."""
    same, apart = scores(FakeEncoder(), [answered("aab c", "aab c"), answered("aaaa", "bbbb")])
    assert same == pytest.approx(1.0, abs=1e-9)
    assert 0 < apart < 0.1


def test_pairs_are_not_crossed(answered):
    """Each answer is held against its own prompt, in whatever company it comes."""
    items = [answered(q, a) for q, a in [("aab", "abb"), ("ccc", "dca"), ("e f", "fff")]]
    assert scores(FakeEncoder(), items) == [scores(FakeEncoder(), [item])[0] for item in items]


def test_each_text_is_embedded_once(answered):
    """The work grows with the number of answers, not with its square."""
    encoder = FakeEncoder()
    scores(encoder, [answered(f"a{i}", f"b{i}") for i in range(50)])
    assert len(encoder.seen) == 100


def test_an_empty_answer_is_one_blank(answered):
    """An empty answer is embedded as a blank and scored, not dropped."""
    encoder = FakeEncoder()
    (value,) = scores(encoder, [answered("abc", "")])
    assert encoder.seen == ["abc", " "]
    assert math.isfinite(value)


def test_only_the_sets_words_and_the_further_questions_count(answered):
    """System sentences and the model's own earlier answers are no part of the prompt."""
    dialogue = Chat.of("aa", system="ee").assistant("bb").user("cc")
    prompt = Prompt("p", dialogue, turns=("dd",))
    asked = dialogue.assistant("own answer").user("dd")
    encoder = FakeEncoder()
    scores(encoder, [answered("", "x", prompt=prompt, turn=1, chat=asked)])
    assert encoder.seen[0] == "aa\nbb\ncc\ndd"


def test_without_an_encoder_it_is_skipped():
    """The reason names the section of the protocol."""
    assert "[coherence]" in Metric(Instruments()).skip()
