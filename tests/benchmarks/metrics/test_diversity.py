"""The diversity scorer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics.diversity import Metric, unique_share, words
from harness.api import Instruments


def value(answered, text):
    """Give the diversity of one text."""
    (score,) = Metric(Instruments()).score([answered("q", text)], {})
    return score.value


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 10, 100])
def test_distinct_words_give_the_closed_form(answered, count):
    """N words without a repeat give (N - 3) / N, and 0 for N up to 3."""
    text = " ".join(f"w{i}" for i in range(count))
    expected = (count - 3) / count if count > 3 else 0.0
    assert value(answered, text) == pytest.approx(expected, abs=1e-12)


def test_a_case_worked_by_hand(answered):
    """Six times one word: 1/6 of the bigrams, 1/5 of the trigrams, 1/4 of the 4-grams."""
    assert value(answered, "no no no no no no") == pytest.approx(1 / 6 * 1 / 5 * 1 / 4)


def test_repeating_lowers_it(answered):
    """Saying a sentence twice is less diverse than saying it once."""
    once = "the quick brown fox jumps over a lazy dog"
    assert value(answered, f"{once} {once}") < value(answered, once)


def test_words_are_cut_without_any_download():
    """Punctuation and contractions are tokens of their own, in every sentence."""
    assert words("Hello, world. I can't.") == ["Hello", ",", "world", ".", "I", "ca", "n't", "."]


@given(st.text(max_size=200))
def test_any_text_has_a_diversity(text):
    """Whatever is written, the value lies in [0, 1) and nothing is raised."""
    assert all(0 <= unique_share(words(text), order) < 1 for order in (2, 3, 4))


def test_parts_are_the_published_repetition_rates(answered):
    """The parts are rep_2, rep_3 and rep_4 as shares."""
    (score,) = Metric(Instruments()).score([answered("q", "a b a b")], {})
    assert score.parts == pytest.approx({"rep_2": 0.5, "rep_3": 1 / 3, "rep_4": 0.5})
