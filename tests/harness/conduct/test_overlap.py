"""Training pairs that begin with a benchmark's question."""

from pathlib import Path

import pytest

from benchmarks.alpaca_eval import AlpacaEval
from benchmarks.harmful_qa import HarmfulQA
from benchmarks.hh_rlhf import HHRLHF
from harness.chat import Chat
from harness.conduct.overlap import first_turn, overlap
from harness.conduct.sources import load_items
from harness.records import Preference, Prompt

REAL = Path(__file__).parents[4] / "shared" / "data"


def pair(name: str, chat: Chat) -> Preference:
    """Make a pair about a conversation."""
    return Preference(name, chat, "good", "bad")


def test_a_pair_that_starts_with_an_asked_question_is_found():
    """Case, blanks and later turns make no difference; another question does."""
    pairs = [
        pair("same", Chat.of("How are  you?\n")),
        pair("longer", Chat.of("how are you?").assistant("well").user("and now?")),
        pair("other", Chat.of("How is he?")),
        pair("later", Chat.of("Hello.").assistant("Hi.").user("How are you?")),
    ]
    assert overlap(pairs, [Prompt("p", Chat.of("How are you?"))]) == {"same", "longer"}
    assert overlap(pairs, []) == set()


def test_system_sentences_do_not_hide_the_question():
    """The first user turn counts, whatever stands before it."""
    assert first_turn(Chat.of("a", system="s")) == first_turn(Chat.of("A"))


@pytest.mark.skipif(not REAL.exists(), reason="no real data beside the checkout")
def test_the_real_leak_is_found():
    """All 129 AlpacaEval instructions taken from HH's helpful test set are first turns there."""
    helpful = str(REAL / "hh_rlhf" / "helpful-base.test.jsonl.gz")
    reading = HHRLHF().read(load_items({"file": helpful}, None))
    pairs = reading.pairs
    source = {"file": str(REAL / "alpaca_eval" / "instructions.jsonl.gz")}
    prompts = AlpacaEval().read(load_items(source, None)).prompts
    found = overlap(pairs, prompts)
    asked = {first_turn(p.chat) for p in prompts if p.category == "helpful_base"}
    assert len(asked & {first_turn(p.chat) for p in reading.prompts}) == len(asked) == 129
    # One of them stands in a pair that is not trained on: its two prompts differ.
    assert len(asked & {first_turn(p.prompt) for p in pairs}) == 128
    assert {first_turn(p.prompt) for p in pairs if p.id in found} < asked
    assert len(found) == 134
    left = [p for p in pairs if p.id not in found]
    assert overlap(left, prompts) == set()


@pytest.mark.skipif(not REAL.exists(), reason="no real data beside the checkout")
@pytest.mark.parametrize("name", ["harmless-base", "helpful-base"])
def test_harmful_qa_shares_nothing_with_the_real_pairs(name):
    """No question of HarmfulQA begins a dialogue of either HH test file."""
    pairs = (
        HHRLHF()
        .read(load_items({"file": str(REAL / "hh_rlhf" / f"{name}.test.jsonl.gz")}, None))
        .pairs
    )
    source = {"file": str(REAL / "harmfulqa" / "harmfulqa.json")}
    assert overlap(pairs, HarmfulQA().read(load_items(source, None)).prompts) == set()
