"""The MT-Bench reader."""

from collections import Counter

import pytest

from benchmarks import mt_bench
from benchmarks.mt_bench import MTBench
from harness.api import Chat, PlumblineError, Prompt
from harness.conduct.sources import load_items


def question(number=81, category="math", turns=("One?", "Two?"), **more):
    """Make a raw question."""
    return {"question_id": number, "category": category, "turns": list(turns)} | more


def answer(number=81, turns=("1", "2")):
    """Make a raw reference answer."""
    return {
        "question_id": number,
        "model_id": "m",
        "choices": [{"index": 0, "turns": list(turns)}],
    }


def test_a_question_has_both_turns():
    """The first turn is the conversation, the second is asked after the answer."""
    (prompt,) = MTBench().read([question()]).prompts
    assert (prompt.id, prompt.chat, prompt.turns) == ("81", Chat.of("One?"), ("Two?",))
    assert (prompt.cluster, prompt.category, prompt.reference) == ("81", "math", None)


def test_the_field_task_is_the_cluster():
    """Items of a world say what task they are of."""
    (prompt,) = MTBench().read([question(task="clean")]).prompts
    assert prompt.cluster == "clean"


def test_the_question_files_own_references_are_used_where_nothing_else_is():
    """Both turns' references are kept."""
    (prompt,) = MTBench().read([question(reference=["1", "2"])]).prompts
    assert (prompt.reference, prompt.further) == ("1", ("2",))


def test_reference_answers_stand_above_the_question_file():
    """With reference answers given, only those count; unused and stray ones are counted."""
    items = [question(reference=["x", "y"]), question(82, reference=["z", ""]), answer(), answer(9)]
    reading = MTBench().read(items)
    assert [(p.reference, p.further) for p in reading.prompts] == [("1", ("2",)), (None, ())]
    assert reading.notes == {mt_bench.UNUSED: 2, mt_bench.STRAY: 1}


def test_empty_and_repeated_questions_are_counted():
    """A question with an empty turn is left out; a repeated id gets one of its own."""
    reading = MTBench().read([question(), question(), question(82, turns=["One?", " "])])
    assert [p.id for p in reading.prompts] == ["81", "81-2"]
    assert [p.cluster for p in reading.prompts] == ["81", "81"]
    assert reading.notes == {mt_bench.REPEATED: 1, mt_bench.EMPTY: 1}


def test_the_hubs_field_names_are_read_too():
    """``prompt_id`` and ``prompt`` mean ``question_id`` and ``turns``."""
    row = {"prompt_id": 81, "category": "math", "prompt": ["One?", "Two?"], "reference": []}
    assert MTBench().read([row]) == MTBench().read([question()])


@pytest.mark.parametrize(
    ("category", "temperature"),
    [
        ("writing", 0.7),
        ("roleplay", 0.7),
        ("extraction", 0.0),
        ("math", 0.0),
        ("coding", 0.0),
        ("reasoning", 0.0),
        ("stem", 0.1),
        ("humanities", 0.1),
        ("gardening", 0.7),
        (None, 0.7),
    ],
)
def test_the_temperature_is_fastchats(category, temperature):
    """Each category has its own temperature; 1,024 tokens for all."""
    prompt = Prompt("p", Chat.of("?"), category=category)
    rule = {"max_new_tokens": 1024, "temperature": temperature}
    assert MTBench().sampling_for(prompt) == rule


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"category": "math", "turns": ["a"]}, "no field 'question_id'"),
        ({"question_id": 1, "category": "math"}, "field 'turns' must be a list .*missing"),
        (question(turns=[1]), "field 'turns' must be a list"),
        ({"question_id": 1, "turns": ["a"]}, "no field 'category'"),
        ({"question_id": 1, "choices": []}, "field 'choices' must be a list"),
    ],
)
def test_another_shape_is_one_clear_error(item, message):
    """The error names the field."""
    with pytest.raises(PlumblineError, match=message):
        MTBench().read([item])


def test_the_real_questions_are_read_completely(real):
    """80 questions of two turns, ten a category, 39 with a reference of their own."""
    reading = MTBench().read(load_items({"file": str(real("mt_bench/question.jsonl"))}, None))
    assert len(reading.prompts) == len({p.id for p in reading.prompts}) == 80
    assert all(len(p.turns) == 1 for p in reading.prompts)
    assert set(Counter(p.category for p in reading.prompts).values()) == {10}
    assert sum(p.reference is not None for p in reading.prompts) == 39
    assert not reading.notes


def test_the_real_folder_brings_thirty_reference_answers(real):
    """FastChat's folder: ids 101 to 130 have answers to both turns."""
    reading = MTBench().read(load_items({"file": str(real("mt_bench"))}, None))
    have = [p for p in reading.prompts if p.reference is not None]
    assert len(reading.prompts) == 80
    assert [int(p.id) for p in have] == list(range(101, 131))
    assert all(len(p.further) == 1 for p in have)
    assert reading.notes == {mt_bench.UNUSED: 39}
