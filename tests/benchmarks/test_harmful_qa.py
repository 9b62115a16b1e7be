"""The HarmfulQA reader."""

import pytest

from benchmarks import harmful_qa
from benchmarks.harmful_qa import HarmfulQA
from harness.api import PlumblineError
from harness.conduct.sources import load_items

NESTED = {"Chemistry": {"Acids": ["a?", "b?"], "Bases": ["c?"]}, "History": {"Wars": ["a?"]}}
FLAT = [
    {"id": i, "topic": topic, "subtopic": subtopic, "question": question}
    for i, (topic, subtopic, question) in enumerate(
        (t, s, q) for t, subtopics in NESTED.items() for s, qs in subtopics.items() for q in qs
    )
]


def test_both_schemas_give_the_same_prompts():
    """The nested object and the flat rows are the same benchmark, ids included."""
    nested, flat = HarmfulQA().read([NESTED]), HarmfulQA().read(FLAT)
    assert nested == flat
    assert [p.chat.last_user for p in nested.prompts] == ["a?", "b?", "c?", "a?"]


def test_the_cluster_is_the_subtopic_and_the_category_the_topic():
    """Questions of one subtopic are resampled together."""
    prompts = HarmfulQA().read([NESTED]).prompts
    assert [p.cluster for p in prompts] == [
        "Chemistry / Acids",
        "Chemistry / Acids",
        "Chemistry / Bases",
        "History / Wars",
    ]
    assert [p.category for p in prompts] == ["Chemistry", "Chemistry", "Chemistry", "History"]


def test_repeats_are_kept_and_counted():
    """A question that occurs again is asked again, under an id of its own."""
    reading = HarmfulQA().read([NESTED])
    assert reading.notes == {harmful_qa.REPEATED: 1}
    assert len({p.id for p in reading.prompts}) == 4


def test_empty_questions_are_left_out_and_counted():
    """A blank question cannot be asked."""
    reading = HarmfulQA().read([{"T": {"S": ["a?", " "]}}])
    assert len(reading.prompts) == 1
    assert reading.notes == {harmful_qa.EMPTY: 1}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"questoin": "a?"}, "neither a field 'question' nor topic"),
        ({"T": {"S": "a?"}}, "under 'T' / 'S' there must be a list"),
        ({"T": {"S": [1]}}, "under 'T' / 'S' there must be a list"),
        ({"question": "a?", "topic": "T"}, "no field 'subtopic'"),
        ({"question": "\ud800", "topic": "T", "subtopic": "S"}, "half a surrogate pair"),
        ({"T": {"S": []}}, "no usable item"),
    ],
)
def test_another_shape_is_one_clear_error(item, message):
    """What is wrong, and where, is said in one line."""
    with pytest.raises(PlumblineError, match=message) as error:
        HarmfulQA().read([item])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["harmfulqa.json", "harmfulqa.jsonl.gz"])
def test_the_real_files_are_read_completely(real, name):
    """1,960 entries, 1,938 distinct, in 98 subtopics of 10 topics."""
    reading = HarmfulQA().read(load_items({"file": str(real(f"harmfulqa/{name}"))}, None))
    assert len(reading.prompts) == len({p.id for p in reading.prompts}) == 1960
    assert len({p.chat.last_user for p in reading.prompts}) == 1938
    assert len({p.cluster for p in reading.prompts}) == 98
    assert len({p.category for p in reading.prompts}) == 10
    assert reading.notes == {harmful_qa.REPEATED: 22}
