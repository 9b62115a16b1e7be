"""What every benchmark owes, on hand-made items and on a world's."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.alpaca_eval import AlpacaEval
from benchmarks.harmful_qa import HarmfulQA
from benchmarks.hh_rlhf import HHRLHF
from benchmarks.mt_bench import MTBench
from harness.api import PlumblineError, Read
from harness.conduct.overlap import overlap
from harness.conduct.sources import load_items

HAND_MADE = {
    HHRLHF: [
        {
            "chosen": f"\n\nHuman: Question {i}?\n\nAssistant: Yes.",
            "rejected": f"\n\nHuman: Question {i}?\n\nAssistant: No.",
        }
        for i in range(4)
    ],
    HarmfulQA: [{"Topic": {"Sub": ["One?", "Two?"], "Other": ["Three?", "Four?"]}}],
    AlpacaEval: [
        {"instruction": f"Do {i}.", "output": "Done.", "generator": "g", "dataset": "d"}
        for i in range(4)
    ],
    MTBench: [
        {"question_id": i, "category": "math", "turns": ["One?", "Two?"], "reference": ["1", "2"]}
        for i in range(4)
    ],
}
ITEMS = {HHRLHF: "hh_rlhf", HarmfulQA: "harmful_qa", AlpacaEval: "alpaca_eval", MTBench: "mt_bench"}
each = pytest.mark.parametrize("benchmark", ITEMS, ids=lambda kind: kind.__name__)


def keeps_the_contract(benchmark, reading: Read) -> None:
    """Check what holds for every reading."""
    assert reading.prompts
    ids = [p.id for p in reading.prompts]
    assert len(set(ids)) == len(ids)
    for prompt in reading.prompts:
        assert prompt.chat.last_user.strip()
        assert prompt.cluster
        assert all(turn.strip() for turn in prompt.turns)
        assert benchmark is MTBench or not prompt.turns
        rule = benchmark().sampling_for(prompt)
        assert rule["max_new_tokens"] >= 128
        json.dumps(asdict(prompt), ensure_ascii=False).encode()
    for pair in reading.pairs:
        assert pair.prompt.last_user.strip()
        assert pair.chosen != pair.rejected
    assert len({pair.id for pair in reading.pairs}) == len(reading.pairs)
    assert all(count > 0 for count in reading.notes.values())


@each
def test_hand_made_items_become_prompts(benchmark):
    """Four items in the published schema are four prompts, with nothing odd about them."""
    reading = benchmark().read(HAND_MADE[benchmark])
    keeps_the_contract(benchmark, reading)
    assert len(reading.prompts) == 4
    assert {len(p.turns) for p in reading.prompts} == {int(benchmark is MTBench)}
    assert not reading.notes


@each
def test_reading_twice_gives_the_same(benchmark):
    """Ids, order and counts are a function of the items."""
    assert benchmark().read(HAND_MADE[benchmark]) == benchmark().read(HAND_MADE[benchmark])


@each
def test_items_from_a_file_are_the_same_prompts(benchmark, tmp_path):
    """The benchmark cannot tell a file from a list in memory."""
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in HAND_MADE[benchmark]))
    from_file = benchmark().read(load_items({"file": str(path)}, None))
    assert from_file == benchmark().read(HAND_MADE[benchmark])


FIELDS = [
    *["chosen", "rejected", "question", "topic", "subtopic", "instruction", "output", "task"],
    *["question_id", "category", "turns", "reference", "choices", "dataset", "prompt"],
]
DIALOGUE = st.lists(
    st.sampled_from(["\n\nHuman:", "\n\nAssistant:", " ", "a", "\n", "\ud800"]), max_size=8
).map("".join)
LISTS = {"turns": st.lists(DIALOGUE), "reference": st.lists(DIALOGUE)}
NAME = st.text(st.characters(), max_size=3)
VALUE = st.recursive(
    st.none() | st.integers() | st.text(st.characters(), max_size=5) | DIALOGUE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner),
    max_leaves=5,
)


@each
@settings(max_examples=50, deadline=None)
@given(
    items=st.lists(
        st.dictionaries(st.sampled_from(FIELDS) | NAME, VALUE)
        | st.dictionaries(NAME, st.dictionaries(NAME, st.lists(DIALOGUE)))
        | st.fixed_dictionaries(dict.fromkeys(FIELDS, DIALOGUE) | LISTS),
        max_size=3,
    )
)
def test_whatever_the_items_only_one_kind_of_error_is_raised(benchmark, items):
    """Items of any shape are read, or refused with one clear line; nothing crashes."""
    try:
        reading = benchmark().read(items)
    except PlumblineError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        keeps_the_contract(benchmark, reading)


@each
def test_every_scorer_exists(benchmark):
    """The scorers a benchmark names are files of the bench."""
    from harness.conduct import plugins

    known = {one.name for one in [*plugins.metrics(), *plugins.judges()]}
    assert set(benchmark.scorers) <= known
    assert benchmark.title
    assert benchmark.about
    assert benchmark.headline[0] == "gold"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    """Give a folder with the items of the testbed, written as its build writes them."""
    items = pytest.importorskip("benchmarks.testbed.items")
    language = pytest.importorskip("benchmarks.testbed.language")
    folder = tmp_path_factory.mktemp("testbed")
    items.write_items(language.Language(0), folder / "items")
    return folder


@each
def test_the_testbeds_items_are_the_same_kind_of_prompts(benchmark, testbed):
    """The world's items are read by the same code into the same kind of prompts."""
    reading = benchmark().read(load_items({"world": ITEMS[benchmark]}, testbed))
    keeps_the_contract(benchmark, reading)
    clusters = {p.cluster for p in reading.prompts}
    if benchmark is MTBench:
        assert len(reading.prompts) == len(clusters) == 80
        assert len({p.category for p in reading.prompts}) == 8
        assert all(len(p.turns) == 1 for p in reading.prompts)
    else:
        assert len(reading.prompts) >= 512
        assert len(clusters) < len(reading.prompts)  # a task is asked for in several ways
    assert all(p.reference for p in reading.prompts) or benchmark in (HarmfulQA, MTBench)


def test_the_testbeds_training_pairs_are_pairs(testbed):
    """Every pair of the world can be trained on, and none opens with a benchmark's question."""
    pairs = HHRLHF().read(load_items({"world": "pairs.train"}, testbed)).pairs
    assert len(pairs) >= 4096
    for benchmark, name in ITEMS.items():
        asked = benchmark().read(load_items({"world": name}, testbed)).prompts
        assert overlap(pairs, asked) == set()
