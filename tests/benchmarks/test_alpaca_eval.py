"""The AlpacaEval reader."""

from collections import Counter

import pytest

from benchmarks import alpaca_eval
from benchmarks.alpaca_eval import AlpacaEval
from harness.api import PlumblineError
from harness.conduct.files import Item
from harness.conduct.sources import load_items


def item(instruction="Say hi.", output="Hi.", **more):
    """Make a raw item."""
    return {"instruction": instruction, "output": output, "generator": "g", "dataset": "d"} | more


def test_an_instruction_becomes_a_prompt_with_its_reference():
    """The output is the reference, the source set the category, the prompt the cluster."""
    reading = AlpacaEval().read([item(), item("Say bye.", "Bye.", task="parting")])
    first, second = reading.prompts
    assert (first.chat.last_user, first.reference, first.category) == ("Say hi.", "Hi.", "d")
    assert first.cluster == first.id
    assert second.cluster == "parting"
    assert not reading.notes


def test_missing_empty_and_repeated_are_counted():
    """No reference, an empty one, a repeated and an empty instruction each have their count."""
    bare = {"idx": 0, "instruction": "Say.", "dataset": "d"}
    reading = AlpacaEval().read([item(), item(), item("Sing.", ""), bare, item(" ")])
    assert len({p.id for p in reading.prompts}) == len(reading.prompts) == 4
    assert reading.notes == {
        alpaca_eval.REPEATED: 1,
        alpaca_eval.EMPTY_REFERENCE: 1,
        alpaca_eval.NO_REFERENCE: 1,
        alpaca_eval.EMPTY: 1,
    }


def test_a_reference_file_gives_the_references():
    """Outputs of another file are joined by instruction; strays and gaps are counted."""
    outputs = [item("Say hi.", "Good day."), item("Fly.", "No.")]
    further = [Item(one, "outputs", reference=True) for one in outputs]
    reading = AlpacaEval().read([item(), item("Sit.", "Yes."), *further])
    assert [p.reference for p in reading.prompts] == ["Good day.", None]
    assert reading.notes == {alpaca_eval.STRAY: 1, alpaca_eval.NO_REFERENCE: 1}


def test_a_missing_field_is_named():
    """The error names the field and what there is instead."""
    with pytest.raises(PlumblineError, match=r"item 1: no field .instruction.; it has .prompt."):
        AlpacaEval().read([{"prompt": "Say hi."}])


def test_the_real_instructions_are_read_completely(real):
    """805 distinct instructions from five sets."""
    source = {"file": str(real("alpaca_eval/instructions.jsonl.gz"))}
    reading = AlpacaEval().read(load_items(source, None))
    assert len(reading.prompts) == len({p.cluster for p in reading.prompts}) == 805
    assert Counter(p.category for p in reading.prompts) == {
        "selfinstruct": 252,
        "oasst": 188,
        "koala": 156,
        "helpful_base": 129,
        "vicuna": 80,
    }
    assert reading.notes == {alpaca_eval.NO_REFERENCE: 805}


@pytest.mark.parametrize(
    ("model", "missing", "empty"),
    [
        ("text_davinci_003", 0, 2),
        ("gpt4_1106_preview", 0, 0),
        ("alpaca-7b_concise", 1, 0),
        ("text_davinci_001", 2, 0),
    ],
)
def test_real_outputs_are_joined_as_references(real, model, missing, empty):
    """Short output files leave instructions without a reference; empty outputs stay empty."""
    outputs = {"file": str(real(f"alpaca_eval/model_outputs/{model}.jsonl.gz"))}
    source = {"file": str(real("alpaca_eval/instructions.jsonl.gz")), "references": outputs}
    reading = AlpacaEval().read(load_items(source, None))
    assert len(reading.prompts) == 805
    assert reading.notes[alpaca_eval.NO_REFERENCE] == missing
    assert reading.notes[alpaca_eval.EMPTY_REFERENCE] == empty
    assert reading.notes[alpaca_eval.STRAY] == 0
