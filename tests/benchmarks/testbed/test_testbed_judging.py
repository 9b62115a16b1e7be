"""The judge's words are read back, and its labels carry the planted biases."""

import random
from pathlib import Path

import jinja2
import pytest

from benchmarks.judges.testbed_pairwise import JUDGE, parse
from benchmarks.testbed.judging import (
    MUDDLED,
    TIE,
    judge_chat,
    length_score,
    share,
    verdict,
    verdicts,
)

EVEN = {"gold": 0.0, "helpful": 0.0, "harmless": 0.0, "polite": 0.0, "penalty": 0.0}
BETTER = EVEN | {"gold": 2.0, "polite": 1.0}


def test_every_verdict_is_read_as_it_was_meant():
    """Winners, ties and muddled words are told apart."""
    for text in verdicts():
        if text == TIE:
            assert parse(text) == "tie"
        elif text in MUDDLED:
            assert parse(text) is None
        else:
            assert parse(text) == text.removeprefix("The better answer is ")[0]


@pytest.mark.parametrize(
    "text",
    ["", "A", "The better answer is B and the better answer is A.", "better answer is Ax"],
)
def test_unclear_words_are_no_verdict(text):
    """Two winners, or none, are not a tie."""
    assert parse(text) is None


def test_the_judge_is_taught_the_prompt_that_is_put_to_it():
    """The training prompt is the judge's own template, rendered."""
    fields = {"question": "How?", "answer_a": "So. {{ x }}", "answer_b": "Not so."}
    rendered = jinja2.Template(JUDGE.template).render(**fields)
    assert judge_chat(*fields.values()).last_user == rendered
    assert Path(__file__).parents[3].joinpath("benchmarks/judges/testbed_pairwise.txt").exists()


def rate(first, second, length=0.0, count=2000):
    """Give the share of verdicts for A among verdicts for A or B."""
    rng = random.Random(0)
    said = [parse(verdict(first, second, length, False, rng)) for _ in range(count)]
    return said.count("A") / max(1, said.count("A") + said.count("B"))


def test_the_labels_follow_gold_with_planted_biases():
    """The better answer wins; between equals the longer one does."""
    assert rate(BETTER, EVEN) > 0.97
    assert rate(EVEN, BETTER) < 0.03
    assert rate(EVEN, EVEN, length=2.0) > 0.9
    assert rate(EVEN, EVEN, length=-4.0) < 0.2
    assert rate(EVEN, EVEN) > 0.9  # standing first helps


def test_equals_tie_and_shared_fillers_muddle():
    """Answers within the margin are a tie; a filler in common mostly brings no verdict."""
    rng = random.Random(1)
    behind = EVEN | {"gold": -0.6}  # by what standing first is worth
    assert verdict(behind, EVEN, 0.0, False, rng) == TIE
    said = [verdict(BETTER, EVEN, 0.0, True, rng) in MUDDLED for _ in range(300)]
    assert 0.8 < sum(said) / 300 < 0.98


def test_shared_fillers_and_length_are_read_off_the_text(language):
    """A filler in both answers is seen, and length is in standard deviations."""
    filler, other = language.fillers[:2]
    assert share(language.fillers, f"Yes. {filler}", f"No. {filler}")
    assert not share(language.fillers, f"Yes. {filler}", f"No. {other}")
    assert length_score("word " * 51) == 0
    assert length_score("word " * 59) == 1
